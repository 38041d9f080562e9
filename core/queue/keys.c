#include "queue/keys.h"

#include <stdio.h>

void queue_keys_init(struct queue_keys *keys, uint32_t partition)
{
    static const char *const names[KEY_COUNT] = {
        [KEY_EVENTS] = "events",         [KEY_RETRY] = "retry", [KEY_ENVELOPES] = "envelopes", [KEY_DEAD] = "dead",
        [KEY_DEAD_INDEX] = "dead_index", [KEY_EPOCH] = "epoch", [KEY_PROBE] = "probe",
    };
    for (int i = 0; i < KEY_COUNT; i++) {
        snprintf(keys->text[i], sizeof(keys->text[i]), "waybill:{%u}:%s", partition, names[i]);
        keys->of[i] = slice_of(keys->text[i]);
    }
}

void queue_key_out(uint32_t partition, struct slice topic, struct buf *out)
{
    buf_printf(out, "waybill:{%u}:out:", partition);
    buf_add_slice(out, topic);
}

void queue_key_published(uint32_t partition, struct slice event_key, struct buf *out)
{
    buf_printf(out, "waybill:{%u}:published:", partition);
    buf_add_slice(out, event_key);
}
