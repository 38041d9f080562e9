/* What ingest counts (docs/operations.md lists the names). Shared by all threads. */
#ifndef INGEST_MEASURES_H
#define INGEST_MEASURES_H

#include <stdbool.h>

#include "base/metrics.h"
#include "base/slice.h"

struct measures {
    struct metrics *registry; /* the owner's */
    struct metric *accepted, *slow_senders, *ack_seconds, *connections, *pending, *queue_ready, *backlog, *generation;
    struct metric *reloads_ok, *reloads_failed;
    struct metric *answered_accepted; /* waybill_ingest_requests_total{code="accepted"} */
    struct answer_counts *answers;    /* one counter a code */
};

void measures_open(struct measures *measures, struct metrics *registry);
void measures_close(struct measures *measures);

/* Counts an answer by its problem code. Scripts choose codes too: after many different ones the rest count as "other".
 */
void measures_count(struct measures *measures, struct slice code);

#endif
