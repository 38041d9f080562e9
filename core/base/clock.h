/* Two clocks that cannot be mixed up: wall time for records, monotonic time for deadlines. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

typedef struct {
    int64_t ms; /* since 1970-01-01T00:00:00Z */
} wall_time;

typedef struct {
    int64_t us; /* since some fixed moment of this machine's run */
} mono_time;

wall_time clock_wall(void);
mono_time clock_mono(void);

static inline mono_time mono_after_ms(mono_time from, int64_t ms)
{
    return (mono_time){from.us + ms * 1000};
}

static inline int64_t mono_elapsed_ms(mono_time from, mono_time to)
{
    return (to.us - from.us) / 1000;
}

static inline bool mono_is_past(mono_time deadline, mono_time now)
{
    return now.us >= deadline.us;
}

#define CLOCK_TEXT_BYTES 32

/* RFC 3339 in UTC with milliseconds, as "2026-01-31T12:00:00.000Z". Returns out. */
const char *clock_format(wall_time time, char out[CLOCK_TEXT_BYTES]);

/* Parses an RFC 3339 date-time (section 5.6: 'T', full seconds, offset 'Z' or ±hh:mm; fractions are cut to ms; a leap
 * second counts as the next second). false when it is not one, or a date that does not exist. */
bool clock_parse(struct slice text, wall_time *out);

/* Sleeps; returns early (false) when a signal arrives. */
bool clock_sleep_ms(int64_t ms);

#endif
