/* Flags of one command, read into a struct of its options: "--name value", "--name=value", or "--name" for a switch.
 * Flags that are settings (base/config.h) are not known here and stay where they are. */
#ifndef CTL_FLAGS_H
#define CTL_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/error.h"

enum flag_kind {
    FLAG_SWITCH, /* bool */
    FLAG_TEXT,   /* const char *, a view into argv; NULL when not given */
    FLAG_COUNT,  /* int64_t, 0 or more */
};

struct flag {
    const char *name;
    enum flag_kind kind;
    size_t offset;
    const char *value; /* what help calls the value; NULL for a switch */
    const char *help;
};

/* Takes the flags that the list has out of argv and stores their values in options. */
bool flags_take(const struct flag *flags, void *options, int *argc, char **argv, struct error *err) MUST_USE;

void flags_print(FILE *out, const struct flag *flags);

#endif
