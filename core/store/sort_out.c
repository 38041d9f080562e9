/* Step 2 of the protocol: what a document that is there already means for an entry. */
#include "claim.h"

#include "base/log.h"
#include "decision.h"

const char *const claim_fields[] = {
    "ingestion.ingest_id", "status",          "body_sha256",       "claim",  "decision", "attempt", "failures",
    "next_attempt",        "next_attempt_at", "outcome.publishes", "reason", NULL,
};

static void close_as(struct claim_item *item, enum claim_state state)
{
    item->delivery->claim = state;
    item->open = false;
}

/* Another submission of the same identity. */
static void sort_duplicate(struct claim_item *item, const bson_t *doc)
{
    const struct delivery *delivery = item->delivery;
    bool same_body = slice_is(get_text(doc, "body_sha256"), item->sha256);
    item->plan = PLAN_COUNT;
    close_as(item, same_body ? CLAIM_DUPLICATE : CLAIM_CONFLICT);
    if (!same_body)
        log_warn("conflict: another body under the same identity, the first one stays", LOG_SLICE("key", delivery->key),
                 LOG_SLICE("ingest_id", delivery->event.ingest_id));
}

static void sort_finished(struct claim_run *run, struct claim_item *item, const bson_t *doc, bool dead)
{
    struct delivery *delivery = item->delivery;
    bson_t publishes;
    delivery->finished_dead = dead;
    delivery->attempt = (uint32_t)get_int(doc, "attempt", 0);
    delivery->retry.reason = slice_keep(run->claim->arena, get_text(doc, "reason"));
    if (!dead && get_array(doc, "outcome.publishes", &publishes))
        read_publishes(&publishes, run->claim->arena, &delivery->outcome);
    close_as(item, CLAIM_FINISHED);
}

/* Ours, or about to be: what the handler needs, or what the stored decision says. */
static enum claim_state read_ours(struct claim_run *run, struct claim_item *item, const bson_t *doc)
{
    struct delivery *delivery = item->delivery;
    bson_t decision;
    delivery->attempt = (uint32_t)get_int(doc, "attempt", 0) + 1;
    delivery->failures = (uint32_t)get_int(doc, "failures", 0);
    if (get_document(doc, "decision", &decision) && read_decision(&decision, run->claim->arena, delivery))
        return CLAIM_DECIDED;
    return CLAIM_WON;
}

static void plan_take(struct claim_run *run, struct claim_item *item, const bson_t *doc, bool waiting)
{
    struct arena *scratch = run->client->scratch;
    item->plan = PLAN_TAKE;
    item->waiting = waiting;
    item->old_token = slice_keep(scratch, get_text(doc, "claim.token"));
    item->old_decision = slice_keep(scratch, get_text(doc, "decision.kind"));
    item->waits_for = get_int(doc, "next_attempt", 0);
    item->then = read_ours(run, item, doc);
}

static void sort_processing(struct claim_run *run, struct claim_item *item, const bson_t *doc)
{
    bool same_entry = slice_equal(get_text(doc, "claim.entry_id"), item->delivery->entry_id);
    bool stale = get_time(doc, "claim.at").ms + run->claim->lease_ms < run->now.ms;
    if (slice_equal(get_text(doc, "claim.token"), run->token))
        close_as(item, same_entry ? read_ours(run, item, doc) : CLAIM_HELD); /* held by a neighbour in this batch */
    else if (same_entry || stale)
        plan_take(run, item, doc, false);
    else
        close_as(item, CLAIM_HELD);
}

static void sort_waiting(struct claim_run *run, struct claim_item *item, const bson_t *doc)
{
    struct delivery *delivery = item->delivery;
    int64_t waits_for = get_int(doc, "next_attempt", 0);
    if (waits_for <= delivery->event.attempt) {
        plan_take(run, item, doc, true);
        return;
    }
    int64_t wait_ms = get_time(doc, "next_attempt_at").ms - run->now.ms;
    delivery->wait_ms = wait_ms > 0 ? wait_ms : 0;
    delivery->next_attempt = (uint32_t)waits_for;
    close_as(item, CLAIM_WAITING);
}

void claim_sort_out(struct claim_run *run, struct claim_item *item, const bson_t *doc)
{
    struct slice status = get_text(doc, "status");
    item->found = true;
    item->plan = PLAN_NONE;
    if (!slice_equal(get_text(doc, "ingestion.ingest_id"), item->delivery->event.ingest_id))
        sort_duplicate(item, doc);
    else if (slice_is(status, STATUS_PROCESSING))
        sort_processing(run, item, doc);
    else if (slice_is(status, STATUS_RETRY_WAIT))
        sort_waiting(run, item, doc);
    else if (slice_is(status, STATUS_SUCCEEDED) || slice_is(status, STATUS_DEAD))
        sort_finished(run, item, doc, slice_is(status, STATUS_DEAD));
    else {
        log_error("an event's document has a status that is not ours", LOG_SLICE("key", item->delivery->key),
                  LOG_SLICE("status", status));
        close_as(item, CLAIM_HELD);
    }
}
