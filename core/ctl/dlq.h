/* What the files of the dlq commands share. */
#ifndef CTL_DLQ_H
#define CTL_DLQ_H

#include <stdint.h>

#include "ctl/ctl.h"

bool dlq_status_is_known(const char *status);

/* Who reviews: "user@host", in arena. */
struct slice dlq_who(struct arena *arena);

/* "KEY replayed", as text or as {"key":…,"result":…,"error":…}. error may be NULL. */
void dlq_print_done(const char *key, const char *result, const char *error, bool json);

struct dlq_replay_options {
    bool all, dry_run, discarded, json;
    const char *source, *reason, *rate;
};
extern const char dlq_replay_details[];
extern const struct flag dlq_replay_flags[];
enum ctl_exit dlq_run_replay(struct ctl *ctl, const void *options, int argc, char **argv);

#endif
