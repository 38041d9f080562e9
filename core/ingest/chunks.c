#include "ingest/chunks.h"

#include <stdbool.h>
#include <string.h>

enum state {
    SIZE_FIRST, /* before a size's first digit; must be 0, where the library begins */
    SIZE,       /* behind a digit of a size */
    SIZE_SPACE, /* behind space that an extension must follow */
    EXTENSION,  /* behind the ';' */
    SIZE_LF,    /* between CR and LF of a size's line */
    DATA,       /* in a chunk's data */
    DATA_CR,    /* behind a chunk's data */
    DATA_LF,
    TRAILER, /* at the begin of a line behind the last chunk */
    TRAILER_TEXT,
    TRAILER_LF,
    END_LF, /* between CR and LF of the empty line that ends all */
    END,
    BROKEN,
};

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum state take_digit(struct chunks *chunks, char c)
{
    if (chunks->left >> (sizeof chunks->left * 8 - 5) != 0)
        return BROKEN; /* larger than anything */
    chunks->left = chunks->left * 16 + (size_t)digit_value(c);
    return SIZE;
}

static enum state after_size(struct chunks *chunks, char c)
{
    if (digit_value(c) >= 0)
        return take_digit(chunks, c);
    switch (c) {
    case '\r':
        return SIZE_LF;
    case ';':
        return EXTENSION;
    case ' ':
    case '\t':
        return SIZE_SPACE;
    default:
        return BROKEN;
    }
}

/* A byte of an extension or a trailer: at_end where its line ends. */
static enum state take_extra(struct chunks *chunks, char c, enum state same, enum state at_end)
{
    if (c == '\r')
        return at_end;
    if (((unsigned char)c < 0x20 && c != '\t') || c == 0x7f || ++chunks->extra_bytes > CHUNKS_EXTRA_MAX_BYTES)
        return BROKEN;
    return same;
}

static enum state space_before_extension(struct chunks *chunks, char c)
{
    bool more = (c == ' ' || c == '\t') && ++chunks->extra_bytes <= CHUNKS_EXTRA_MAX_BYTES;
    return more ? SIZE_SPACE : c == ';' ? EXTENSION : BROKEN;
}

/* The state behind one byte that is not data. */
static enum state take(struct chunks *chunks, char c)
{
    switch ((enum state)chunks->state) {
    case SIZE_FIRST:
        return digit_value(c) >= 0 ? take_digit(chunks, c) : BROKEN;
    case SIZE:
        return after_size(chunks, c);
    case SIZE_SPACE:
        return space_before_extension(chunks, c);
    case EXTENSION:
        return take_extra(chunks, c, EXTENSION, SIZE_LF);
    case SIZE_LF:
        return c != '\n' ? BROKEN : chunks->left == 0 ? TRAILER : DATA;
    case DATA_CR:
        return c == '\r' ? DATA_LF : BROKEN;
    case DATA_LF:
        return c == '\n' ? SIZE_FIRST : BROKEN;
    case TRAILER:
        return take_extra(chunks, c, TRAILER_TEXT, END_LF);
    case TRAILER_TEXT:
        return take_extra(chunks, c, TRAILER_TEXT, TRAILER_LF);
    case TRAILER_LF:
        return c == '\n' ? TRAILER : BROKEN;
    case END_LF:
        return c == '\n' ? END : BROKEN;
    default:
        return BROKEN;
    }
}

/* Moves data to its place in the body; returns how many bytes. */
static size_t move_data(struct chunks *chunks, char *to, const char *from, size_t available)
{
    size_t n = available < chunks->left ? available : chunks->left;
    memmove(to, from, n);
    chunks->left -= n;
    if (chunks->left == 0)
        chunks->state = DATA_CR;
    return n;
}

ssize_t chunks_decode(struct chunks *chunks, char *bytes, size_t *len)
{
    size_t from = 0, to = 0;
    while (from < *len && chunks->state != END && chunks->state != BROKEN) {
        if (chunks->state == DATA) {
            size_t n = move_data(chunks, bytes + to, bytes + from, *len - from);
            from += n;
            to += n;
        } else {
            chunks->state = (uint8_t)take(chunks, bytes[from++]);
        }
    }
    size_t behind = *len - from;
    memmove(bytes + to, bytes + from, behind);
    *len = to;
    if (chunks->state == BROKEN)
        return CHUNKS_BROKEN;
    return chunks->state == END ? (ssize_t)behind : CHUNKS_INCOMPLETE;
}
