/* The store and the queue as a command needs them: opened when asked for, failures as exit codes. */
#ifndef CTL_BACKENDS_H
#define CTL_BACKENDS_H

#include "ctl/ctl.h"
#include "queue/queue.h"
#include "store/store.h"

struct backends {
    struct store *store;
    struct store_client *client;
    struct queue *queue;
};

/* Say what is wrong themselves and return its exit code; CTL_OK otherwise. Neither has talked to a server yet. */
enum ctl_exit backends_open_store(const struct ctl *ctl, struct backends *backends) MUST_USE;
enum ctl_exit backends_open_queue(const struct ctl *ctl, struct backends *backends) MUST_USE;
void backends_close(struct backends *backends); /* what was opened */

/* The exit code of a result; for all but OK err becomes a whole sentence for the user, about `what`. */
enum ctl_exit backends_store_code(enum store_result result, const char *what, struct error *err);
enum ctl_exit backends_queue_code(enum queue_result result, struct error *err);
/* The same, and the sentence is said. */
enum ctl_exit backends_store_exit(const struct ctl *ctl, enum store_result result, const char *what, struct error *err);
enum ctl_exit backends_queue_exit(const struct ctl *ctl, enum queue_result result, struct error *err);

/* "source/event_id"? Says so when not. */
enum ctl_exit backends_check_key(const struct ctl *ctl, const char *key) MUST_USE;

#endif
