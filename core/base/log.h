/* Structured log lines on standard error, as text or JSON. Thread-safe: one write a line.
 *
 *     log_info("ready", LOG_S("listen", address), LOG_I("threads", n));
 *
 * The message is a constant; what varies goes into fields. Never a secret, never a body. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

struct log_field {
    const char *name; /* NULL ends the list */
    bool is_number;
    int64_t number;
    struct slice text;
};

#define LOG_S(name, text)      ((struct log_field){(name), false, 0, slice_of(text)})
#define LOG_SLICE(name, slice) ((struct log_field){(name), false, 0, (slice)})
#define LOG_I(name, value)     ((struct log_field){(name), true, (int64_t)(value), {0}})

/* Call once, before threads start. service is kept as a pointer. */
void log_open(const char *service, enum log_level level, enum log_format format);
bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *message, const struct log_field *fields);

#define LOG_AT(level, message, ...)                                                                                    \
    do {                                                                                                               \
        if (log_enabled(level))                                                                                        \
            log_write((level), (message), (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){0}});                  \
    } while (0)
#define log_debug(...) LOG_AT(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  LOG_AT(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  LOG_AT(LOG_WARN, __VA_ARGS__)
#define log_error(...) LOG_AT(LOG_ERROR, __VA_ARGS__)

/* For lines that an outage would repeat without end: true at most once in every_ms for this gate, and then *skipped
 * is how many were left out since the last. A gate belongs to one thread. */
struct log_gate {
    int64_t next_us;
    uint64_t skipped;
};
bool log_gate_open(struct log_gate *gate, int64_t every_ms, uint64_t *skipped);

#endif
