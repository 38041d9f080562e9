/* Commands in Redis' protocol (RESP arrays of bulk strings), written without printf: binary safe, and this is on the
 * path of every accepted event. The number of parts is said first. */
#ifndef QUEUE_COMMAND_H
#define QUEUE_COMMAND_H

#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

/* The most that a part or a count needs beside its own bytes: '$', 20 digits, two line ends. */
#define COMMAND_FRAME_BYTES 25

static inline struct slice command_digits(char text[20], uint64_t value)
{
    size_t at = 20;
    do {
        text[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return (struct slice){text + at, 20 - at};
}

/* The put functions write at a cursor, where the caller has made room, and return the new one. */
static inline char *command_put(char *at, struct slice bytes)
{
    if (bytes.len > 0)
        memcpy(at, bytes.base, bytes.len);
    return at + bytes.len;
}

static inline char *command_put_count(char *at, char kind, size_t count)
{
    char text[20];
    *at++ = kind;
    at = command_put(at, command_digits(text, count));
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

static inline char *command_put_part(char *at, struct slice part)
{
    at = command_put(command_put_count(at, '$', part.len), part);
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

static inline void command_begin(struct buf *out, size_t n_parts)
{
    char frame[COMMAND_FRAME_BYTES];
    buf_add(out, frame, (size_t)(command_put_count(frame, '*', n_parts) - frame));
}

static inline void command_part(struct buf *out, struct slice part)
{
    buf_reserve(out, part.len + COMMAND_FRAME_BYTES);
    out->len = (size_t)(command_put_part(out->data + out->len, part) - out->data);
}

static inline void command_text(struct buf *out, const char *part)
{
    command_part(out, slice_of(part));
}

/* All our numbers count something: a negative one is written as 0. */
static inline void command_number(struct buf *out, int64_t part)
{
    char text[20];
    command_part(out, command_digits(text, part < 0 ? 0 : (uint64_t)part));
}

#endif
