#include "base/clock.h"

#include <stdio.h>
#include <time.h>

wall_time clock_wall(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (wall_time){(int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000};
}

mono_time clock_mono(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (mono_time){(int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000};
}

const char *clock_format(wall_time time, char out[CLOCK_TEXT_BYTES])
{
    int64_t seconds = time.ms / 1000, ms = time.ms % 1000;
    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    time_t t = (time_t)seconds;
    struct tm tm;
    if (gmtime_r(&t, &tm) == NULL)
        tm = (struct tm){.tm_mday = 1, .tm_year = 70};
    size_t n = strftime(out, CLOCK_TEXT_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, CLOCK_TEXT_BYTES - n, ".%03dZ", (int)ms);
    return out;
}

/* Takes exactly `digits` decimal digits at *at, and moves on. -1 when they are not there. */
static int take_digits(struct slice text, size_t *at, int digits)
{
    int value = 0;
    for (int i = 0; i < digits; i++, (*at)++) {
        if (*at >= text.len || text.base[*at] < '0' || text.base[*at] > '9')
            return -1;
        value = value * 10 + (text.base[*at] - '0');
    }
    return value;
}

static bool take_char(struct slice text, size_t *at, char c)
{
    if (*at >= text.len || text.base[*at] != c)
        return false;
    (*at)++;
    return true;
}

static int64_t days_from_civil(int year, int month, int day)
{
    /* Days since 1970-01-01 in the proleptic Gregorian calendar, years counted from March. */
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = y / 400, year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : days[month - 1];
}

static bool parse_date(struct slice text, size_t *at, int64_t *days)
{
    int year = take_digits(text, at, 4);
    if (year < 1 || !take_char(text, at, '-'))
        return false;
    int month = take_digits(text, at, 2);
    if (month < 1 || month > 12 || !take_char(text, at, '-'))
        return false;
    int day = take_digits(text, at, 2);
    if (day < 1 || day > days_in_month(year, month))
        return false;
    *days = days_from_civil(year, month, day);
    return true;
}

static bool parse_time(struct slice text, size_t *at, int64_t *ms)
{
    int hour = take_digits(text, at, 2);
    if (hour < 0 || hour > 23 || !take_char(text, at, ':'))
        return false;
    int minute = take_digits(text, at, 2);
    if (minute < 0 || minute > 59 || !take_char(text, at, ':'))
        return false;
    int second = take_digits(text, at, 2);
    if (second < 0 || second > 60)
        return false;
    int64_t fraction = 0;
    if (take_char(text, at, '.')) {
        size_t start = *at;
        for (int scale = 100; *at < text.len && text.base[*at] >= '0' && text.base[*at] <= '9'; (*at)++, scale /= 10)
            fraction += (text.base[*at] - '0') * scale;
        if (*at == start)
            return false;
    }
    *ms = ((int64_t)hour * 3600 + minute * 60 + second) * 1000 + fraction;
    return true;
}

static bool parse_offset(struct slice text, size_t *at, int64_t *ms)
{
    *ms = 0;
    if (take_char(text, at, 'Z') || take_char(text, at, 'z'))
        return true;
    int64_t sign = take_char(text, at, '+') ? 1 : -1;
    if (sign < 0 && !take_char(text, at, '-'))
        return false;
    int hour = take_digits(text, at, 2);
    if (hour < 0 || hour > 23 || !take_char(text, at, ':'))
        return false;
    int minute = take_digits(text, at, 2);
    if (minute < 0 || minute > 59)
        return false;
    *ms = sign * ((int64_t)hour * 60 + minute) * 60000;
    return true;
}

bool clock_parse(struct slice text, wall_time *out)
{
    size_t at = 0;
    int64_t days, time_ms, offset_ms;
    if (!parse_date(text, &at, &days))
        return false;
    if (!take_char(text, &at, 'T') && !take_char(text, &at, 't'))
        return false;
    if (!parse_time(text, &at, &time_ms) || !parse_offset(text, &at, &offset_ms) || at != text.len)
        return false;
    out->ms = days * 86400000 + time_ms - offset_ms;
    return true;
}

bool clock_sleep_ms(int64_t ms)
{
    if (ms <= 0)
        return true;
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000};
    return nanosleep(&pause, NULL) == 0;
}
