/* Envelopes from the queue: whatever the fields hold, decoding is safe; what decodes is encoded and decoded to the
 * same. The input is name NUL value NUL name NUL value NUL … */
#include <stdint.h>
#include <stdlib.h>

#include "event/event.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_FIELDS 20

static size_t split(const uint8_t *data, size_t size, struct envelope_field fields[MAX_FIELDS])
{
    struct slice parts[2 * MAX_FIELDS];
    size_t n = 0, from = 0;
    for (size_t i = 0; i < size && n < 2 * MAX_FIELDS; i++) {
        if (data[i] == 0) {
            parts[n++] = (struct slice){(const char *)data + from, i - from};
            from = i + 1;
        }
    }
    for (size_t i = 0; i < n / 2; i++)
        fields[i] = (struct envelope_field){parts[2 * i], parts[2 * i + 1]};
    return n / 2;
}

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_same(const struct event *a, const struct event *b)
{
    require(slice_equal(a->source, b->source) && slice_equal(a->event_id, b->event_id));
    require(slice_equal(a->type, b->type) && slice_equal(a->occurred_at, b->occurred_at));
    require(slice_equal(a->ingest_id, b->ingest_id) && slice_equal(a->traceparent, b->traceparent));
    require(slice_equal(a->content_type, b->content_type) && slice_equal(a->headers, b->headers));
    require(slice_equal(a->body, b->body) && slice_equal(a->replay, b->replay));
    require(a->received_at.ms == b->received_at.ms && a->attempt == b->attempt);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct envelope_field fields[MAX_FIELDS], again[ENVELOPE_MAX_FIELDS];
    struct event event, second;
    struct error err;
    if (!envelope_decode(fields, split(data, size, fields), &event, &err))
        return 0;
    struct arena *arena = arena_new();
    size_t n = envelope_encode(&event, arena, again);
    require(n <= ENVELOPE_MAX_FIELDS);
    require(envelope_decode(again, n, &second, &err));
    check_same(&event, &second);
    arena_free(arena);
    return 0;
}
