#include "event/event.h"

static size_t put(struct envelope_field *fields, size_t n, const char *name, struct slice value)
{
    fields[n] = (struct envelope_field){slice_of(name), value};
    return n + 1;
}

static size_t put_optional(struct envelope_field *fields, size_t n, const char *name, struct slice value)
{
    return value.len == 0 ? n : put(fields, n, name, value);
}

/* Decimal digits without printf: this is on the path of every accepted event. */
static struct slice decimal(struct arena *arena, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return arena_copy(arena, digits + at, sizeof digits - at);
}

size_t envelope_encode(const struct event *event, struct arena *arena,
                       struct envelope_field fields[ENVELOPE_MAX_FIELDS])
{
    uint64_t received = event->received_at.ms < 0 ? 0 : (uint64_t)event->received_at.ms;
    size_t n = 0;
    n = put(fields, n, "source", event->source);
    n = put(fields, n, "event_id", event->event_id);
    n = put(fields, n, "type", event->type);
    n = put(fields, n, "occurred_at", event->occurred_at);
    n = put(fields, n, "received_at", decimal(arena, received));
    n = put(fields, n, "ingest_id", event->ingest_id);
    n = put_optional(fields, n, "traceparent", event->traceparent);
    n = put_optional(fields, n, "content_type", event->content_type);
    n = put_optional(fields, n, "headers", event->headers);
    n = put(fields, n, "body", event->body);
    if (event->attempt > 1)
        n = put(fields, n, "attempt", decimal(arena, event->attempt));
    return put_optional(fields, n, "replay", event->replay);
}

#define LAST_MS 253402300799999u /* of the year 9999: later times cannot be written, and arithmetic would overflow */

static bool parse_number(struct slice text, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;
    if (text.len == 0 || text.len > 19)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.base[i] < '0' || text.base[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(text.base[i] - '0');
    }
    *out = value;
    return value <= max;
}

/* The slice that a field name stands for; NULL for names that are not known (a later version's) or not slices. */
static struct slice *slot_of(struct event *event, struct slice name)
{
    static const struct {
        const char *name;
        size_t offset;
    } slots[] = {
        {"source", offsetof(struct event, source)},
        {"event_id", offsetof(struct event, event_id)},
        {"type", offsetof(struct event, type)},
        {"occurred_at", offsetof(struct event, occurred_at)},
        {"ingest_id", offsetof(struct event, ingest_id)},
        {"traceparent", offsetof(struct event, traceparent)},
        {"content_type", offsetof(struct event, content_type)},
        {"headers", offsetof(struct event, headers)},
        {"body", offsetof(struct event, body)},
        {"replay", offsetof(struct event, replay)},
    };
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        if (slice_is(name, slots[i].name))
            return (struct slice *)(void *)((char *)event + slots[i].offset);
    }
    return NULL;
}

static bool take_number(const struct envelope_field *field, struct event *event, struct error *err)
{
    bool is_attempt = slice_is(field->name, "attempt");
    uint64_t value;
    if (!parse_number(field->value, is_attempt ? UINT32_MAX : LAST_MS, &value)) {
        error_set(err, "envelope field '%.*s' is not a number, or out of range", SLICE_ARG(field->name));
        return false;
    }
    if (is_attempt)
        event->attempt = (uint32_t)value;
    else
        event->received_at.ms = (int64_t)value;
    return true;
}

static bool check_required(const struct event *event, struct error *err)
{
    const char *field;
    if (!event_source_is_valid(event->source)) {
        error_set(err, "envelope field 'source' is missing or malformed");
        return false;
    }
    if (!event_check_fields(event, &field, err)) {
        error_prefix(err, "envelope field '%s'", field);
        return false;
    }
    if (event->ingest_id.len == 0 || event->ingest_id.len > 64 || event->body.base == NULL || event->attempt == 0) {
        error_set(err, "envelope field '%s' is missing or malformed",
                  event->body.base == NULL ? "body"
                  : event->attempt == 0    ? "attempt"
                                           : "ingest_id");
        return false;
    }
    return true;
}

bool envelope_decode(const struct envelope_field *fields, size_t n, struct event *event, struct error *err)
{
    size_t bytes = 0;
    *event = (struct event){.attempt = 1, .received_at = {-1}};
    for (size_t i = 0; i < n; i++) {
        bytes += fields[i].value.len;
        struct slice *slot = slot_of(event, fields[i].name);
        if (slot != NULL)
            *slot = fields[i].value;
        else if ((slice_is(fields[i].name, "attempt") || slice_is(fields[i].name, "received_at")) &&
                 !take_number(&fields[i], event, err))
            return false;
    }
    if (bytes > ENVELOPE_MAX_BYTES) {
        error_set(err, "envelope has %zu bytes, more than any event", bytes);
        return false;
    }
    if (event->received_at.ms < 0) {
        error_set(err, "envelope field 'received_at' is missing");
        return false;
    }
    return check_required(event, err);
}
