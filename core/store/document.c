#include "document.h"

#include "base/crypto.h"

void body_hash(struct slice body, char hex[SHA256_HEX_BYTES])
{
    unsigned char sum[CRYPTO_SHA256_BYTES];
    crypto_sha256(body, sum);
    crypto_hex(sum, sizeof(sum), hex);
}

void put_claim(bson_t *doc, const struct claim_stamp *stamp)
{
    bson_t claim;
    put_open(doc, "claim", &claim);
    put_text(&claim, "token", stamp->token);
    put_text(&claim, "worker", stamp->worker);
    put_time(&claim, "at", stamp->now);
    put_text(&claim, "entry_id", stamp->entry_id);
    put_close(doc, &claim);
}

/* A stream entry's id begins with the time at which Redis took it. */
static wall_time queued_at(struct slice entry_id)
{
    int64_t ms = 0;
    for (size_t i = 0; i < entry_id.len && entry_id.base[i] >= '0' && entry_id.base[i] <= '9'; i++) {
        if (ms > (INT64_MAX - 9) / 10)
            return (wall_time){0};
        ms = ms * 10 + (entry_id.base[i] - '0');
    }
    return (wall_time){ms};
}

static void put_ingestion(bson_t *doc, const struct delivery *delivery)
{
    bson_t ingestion;
    put_open(doc, "ingestion", &ingestion);
    put_text(&ingestion, "ingest_id", delivery->event.ingest_id);
    put_time(&ingestion, "received_at", delivery->event.received_at);
    put_word(&ingestion, "validation", "accepted");
    put_bool(&ingestion, "acknowledged", true);
    put_time(&ingestion, "queued_at", queued_at(delivery->entry_id));
    put_text(&ingestion, "entry_id", delivery->entry_id);
    put_optional(&ingestion, "traceparent", delivery->event.traceparent);
    put_close(doc, &ingestion);
}

void document_build(bson_t *out, const struct delivery *delivery, const struct claim_stamp *stamp, const char *sha256)
{
    const struct event *event = &delivery->event;
    put_text(out, "_id", delivery->key);
    put_text(out, "source", event->source);
    put_text(out, "event_id", event->event_id);
    put_text(out, "type", event->type);
    put_text(out, "occurred_at", event->occurred_at);
    put_ingestion(out, delivery);
    put_word(out, "status", STATUS_PROCESSING);
    put_time(out, "sweep_at", stamp->now);
    put_claim(out, stamp);
    put_int(out, "attempt", event->attempt > 0 ? (int64_t)event->attempt - 1 : 0);
    put_int(out, "failures", 0);
    put_int(out, "duplicates", 0);
    put_int(out, "conflicts", 0);
    put_optional(out, "replay", event->replay);
    put_text(out, "queue_epoch", stamp->epoch);
    put_text(out, "content_type", event->content_type);
    put_bytes(out, "headers", event->headers);
    put_bytes(out, "body", event->body);
    put_word(out, "body_sha256", sha256);
    put_int(out, "body_bytes", (int64_t)event->body.len);
    put_time(out, "created_at", stamp->now);
    put_time(out, "updated_at", stamp->now);
}

void document_read(const bson_t *doc, struct event *event)
{
    *event = (struct event){
        .source = get_text(doc, "source"),
        .event_id = get_text(doc, "event_id"),
        .type = get_text(doc, "type"),
        .occurred_at = get_text(doc, "occurred_at"),
        .received_at = get_time(doc, "ingestion.received_at"),
        .ingest_id = get_text(doc, "ingestion.ingest_id"),
        .traceparent = get_text(doc, "ingestion.traceparent"),
        .content_type = get_text(doc, "content_type"),
        .headers = get_bytes(doc, "headers"),
        .body = get_bytes(doc, "body"),
        .attempt = (uint32_t)get_int(doc, "attempt", 0) + 1,
        .replay = get_text(doc, "replay"),
    };
}

void document_read_kept(const bson_t *doc, struct arena *arena, struct event *event)
{
    document_read(doc, event);
    struct slice *fields[] = {&event->source,    &event->event_id,    &event->type,         &event->occurred_at,
                              &event->ingest_id, &event->traceparent, &event->content_type, &event->headers,
                              &event->body,      &event->replay};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        *fields[i] = slice_keep(arena, *fields[i]);
}
