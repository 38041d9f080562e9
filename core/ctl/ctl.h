/* waybillctl: what its commands share. One file a group of commands; main.c holds the table of them.
 * Uses: base, event, policy, queue, store; libcurl, privately. */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/config.h"
#include "base/memory.h"
#include "ctl/flags.h"

/* Documented in --help and docs/operations.md; scripts rely on them. */
enum ctl_exit {
    CTL_OK = 0,
    CTL_NOT_GOOD = 1,    /* the thing asked about is not good: rejected event, failed check, not ready */
    CTL_USAGE = 2,       /* wrong words, flags or settings */
    CTL_UNREACHABLE = 3, /* a service did not answer */
    CTL_NOT_FOUND = 4,
};

struct ctl {
    struct config config;
    struct arena *arena; /* lives as long as the command */
    bool json;           /* --json was given */
};

struct command {
    const char *name;      /* one or two words, as "dlq list" */
    const char *arguments; /* for the usage line, as "KEY…"; "" when there are none */
    const char *summary;   /* one line */
    const char *details;   /* more for its --help, lines ending in \n; may be NULL */
    int min_arguments, max_arguments;
    const struct flag *flags; /* ends with a NULL name */
    size_t options_size;      /* of the struct that the flags' offsets are in; zeroed before they are read */
    enum ctl_exit (*run)(struct ctl *ctl, const void *options, int argc, char **argv);
};

/* Ends with a NULL name. */
extern const struct command send_commands[], events_commands[], dlq_commands[], status_commands[], reload_commands[],
    check_commands[];

/* Prints "waybillctl: …" on standard error and, with --json, {"error":…} on standard output; returns code. */
enum ctl_exit ctl_fail(const struct ctl *ctl, enum ctl_exit code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The first half alone, for a command that has its own JSON for what went wrong. */
void ctl_complain(const char *sentence);

#endif
