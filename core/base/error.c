#include "base/error.h"

#include <stdio.h>
#include <string.h>

void error_set(struct error *err, const char *format, ...)
{
    if (err == NULL)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
}

void error_prefix(struct error *err, const char *format, ...)
{
    if (err == NULL)
        return;
    char rest[sizeof err->text];
    memcpy(rest, err->text, sizeof rest);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->text, sizeof err->text - 2, format, args);
    va_end(args);
    size_t at = strlen(err->text);
    if (n < 0 || (size_t)n != at)
        return; /* cut: no room for the rest */
    memcpy(err->text + at, ": ", 2);
    size_t room = sizeof err->text - at - 3, len = strlen(rest);
    memcpy(err->text + at + 2, rest, len < room ? len : room);
    err->text[at + 2 + (len < room ? len : room)] = '\0';
}
