#include "event/event.h"

#include "base/utf8.h"

struct slice event_key(const struct event *event, struct arena *arena)
{
    size_t at = event->source.len, len = at + 1 + event->event_id.len;
    char *key = arena_alloc(arena, len + 1);
    memcpy(key, event->source.base, at);
    key[at] = '/';
    memcpy(key + at + 1, event->event_id.base, event->event_id.len);
    return (struct slice){key, len};
}

uint32_t event_partition(struct slice key, uint32_t partitions)
{
    /* FNV-1a: fixed for ever, as it decides where an identity's entries are. */
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ (unsigned char)key.base[i]) * 16777619u;
    return partitions <= 1 ? 0 : hash % partitions;
}

static bool is_source_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

bool event_source_is_valid(struct slice source)
{
    if (source.len == 0 || source.len > EVENT_SOURCE_MAX_BYTES || source.base[0] == '_' || source.base[0] == '-')
        return false;
    for (size_t i = 0; i < source.len; i++) {
        if (!is_source_char(source.base[i]))
            return false;
    }
    return true;
}

/* A short text: not empty, bounded, UTF-8, no control characters (they would break logs, keys and terminals). */
static bool check_text(struct slice text, size_t max, struct error *err)
{
    if (text.len == 0 || text.len > max) {
        error_set(err, "must have 1 to %zu bytes, has %zu", max, text.len);
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.base[i];
        bool is_c1 = c == 0xc2 && i + 1 < text.len && (unsigned char)text.base[i + 1] < 0xa0; /* U+0080 to U+009F */
        if (c < 0x20 || c == 0x7f || is_c1) {
            error_set(err, "must not contain control characters");
            return false;
        }
    }
    if (!utf8_check(text)) {
        error_set(err, "must be UTF-8");
        return false;
    }
    return true;
}

bool event_check_fields(const struct event *event, const char **field, struct error *err)
{
    *field = "event_id";
    if (!check_text(event->event_id, EVENT_ID_MAX_BYTES, err))
        return false;
    *field = "type";
    if (!check_text(event->type, EVENT_TYPE_MAX_BYTES, err))
        return false;
    *field = "occurred_at";
    return check_text(event->occurred_at, EVENT_TIME_MAX_BYTES, err);
}
