#include "queue/adder.h"
#include "queue/command.h"
#include "queue/durability.h"
#include "queue/reply_error.h"

#define MEASURE_MS       1000
#define MEASURE_LIMIT_MS 100 /* when a backlog limit depends on it */

/* ---- commands of our own ---- */

bool control_send(struct queue_adder *adder, redisCallbackFn *on_reply, void *arg, const struct slice *parts, size_t n)
{
    buf_clear(&adder->command);
    command_begin(&adder->command, n);
    for (size_t i = 0; i < n; i++)
        command_part(&adder->command, parts[i]);
    if (redisAsyncFormattedCommand(adder->redis, on_reply, arg, adder->command.data, adder->command.len) != REDIS_OK)
        return false;
    if (adder->controls++ == 0)
        adder->control_since = clock_mono();
    return true;
}

void control_answered(struct queue_adder *adder)
{
    adder->controls--;
    adder->control_since = clock_mono();
}

void controls_reset(struct queue_adder *adder)
{
    adder->controls = 0;
    adder->probe_left = 0;
    adder->measure_left = 0;
    adder->measured = -1;
    adder->measure_at = adder->probe_at = (mono_time){0};
}

/* ---- durability: whoever acknowledges says so when the server's settings could lose it ---- */

static void on_settings(redisAsyncContext *redis, void *reply_arg, void *arg)
{
    struct queue_adder *adder = redis->data;
    char warning[sizeof(adder->durability)];
    (void)arg;
    if (reply_arg == NULL || adder->redis != redis)
        return;
    control_answered(adder);
    durability_judge(reply_arg, warning, sizeof(warning));
    if (warning[0] != '\0' && strcmp(warning, adder->durability) != 0)
        log_warn("Redis' settings do not keep the promises", LOG_S("problem", warning));
    memcpy(adder->durability, warning, sizeof(warning));
}

/* ---- the probe: does the server take writes? ---- */

/* SETRANGE of nothing at offset 0 of a key that never exists writes nothing and makes no key, but the server checks as
 * for any write: memory, disk, role, replicas, permissions. With ack_replicas a WAIT checks that they are there. */

static void probe_done(struct queue_adder *adder)
{
    if (adder->probe_failed) {
        int64_t wait = backoff_next_ms(&adder->reprobe, PROBE_FIRST_MS, PROBE_CAP_MS);
        adder->probe_at = mono_after_ms(clock_mono(), wait);
        return;
    }
    if (adder->state != LINK_GREETING && adder->state != LINK_REFUSING)
        return;
    if (adder->state == LINK_REFUSING)
        log_info("Redis takes events again");
    else
        log_info("connected to Redis", LOG_S("host", adder->url.host), LOG_S("socket", adder->url.unix_path),
                 LOG_I("port", adder->url.port));
    if (adder->state == LINK_GREETING)
        control_send(adder, on_settings, NULL, durability_command, DURABILITY_PARTS);
    adder->state = LINK_READY;
    backoff_reset(&adder->redial);
}

static void on_probe(redisAsyncContext *redis, void *reply_arg, void *arg)
{
    struct queue_adder *adder = redis->data;
    const redisReply *reply = reply_arg;
    const bool is_wait = arg != NULL;
    if (reply == NULL || adder->redis != redis)
        return;
    control_answered(adder);
    if (reply->type == REDIS_REPLY_ERROR) {
        adder->probe_failed = true;
        link_refused(adder, reply->str);
    } else if (is_wait && reply->integer < (long long)adder->options.ack_replicas) {
        adder->probe_failed = true;
        link_refused(adder, "NOREPLICAS fewer replicas than WAYBILL_ACK_REPLICAS are connected");
    }
    if (--adder->probe_left == 0 && !adder->drop)
        probe_done(adder);
}

void probe_send(struct queue_adder *adder)
{
    char replicas[20], ms[20];
    const struct slice write[] = {SLICE_LITERAL("SETRANGE"), adder->partitions[0].keys.of[KEY_PROBE],
                                  SLICE_LITERAL("0"), SLICE_LITERAL("")};
    const struct slice wait[] = {SLICE_LITERAL("WAIT"), command_digits(replicas, adder->options.ack_replicas),
                                 command_digits(ms, (uint64_t)(adder->options.timeout_ms / 2 + 1))};
    adder->probe_failed = false;
    adder->probe_left = 0;
    if (control_send(adder, on_probe, NULL, write, 4))
        adder->probe_left++;
    if (adder->options.ack_replicas > 0 && control_send(adder, on_probe, adder, wait, 3))
        adder->probe_left++;
}

/* ---- the backlog: entries in the streams and in the retry sets ---- */

static void on_measured(redisAsyncContext *redis, void *reply_arg, void *arg)
{
    struct queue_adder *adder = redis->data;
    const redisReply *reply = reply_arg;
    (void)arg;
    if (reply == NULL || adder->redis != redis)
        return;
    control_answered(adder);
    if (reply->type == REDIS_REPLY_INTEGER && adder->measuring >= 0)
        adder->measuring += reply->integer;
    else
        adder->measuring = -1;
    if (--adder->measure_left > 0)
        return;
    adder->measured = adder->measuring;
    adder->measured_from = adder->measuring_from;
}

static void measure_send(struct queue_adder *adder)
{
    adder->measuring = 0;
    adder->measuring_from = adder->tail; /* what was sent before is counted by the server */
    for (uint32_t i = 0; i < adder->options.partitions; i++) {
        const struct slice *keys = adder->partitions[i].keys.of;
        const struct slice entries[] = {SLICE_LITERAL("XLEN"), keys[KEY_EVENTS]};
        const struct slice waiting[] = {SLICE_LITERAL("ZCARD"), keys[KEY_RETRY]};
        if (control_send(adder, on_measured, NULL, entries, 2))
            adder->measure_left++;
        if (control_send(adder, on_measured, NULL, waiting, 2))
            adder->measure_left++;
    }
}

void controls_tick(struct queue_adder *adder, mono_time now)
{
    if (adder->state != LINK_READY && adder->state != LINK_REFUSING)
        return;
    if (adder->measure_left == 0 && mono_is_past(adder->measure_at, now)) {
        adder->measure_at = mono_after_ms(now, adder->options.max_backlog > 0 ? MEASURE_LIMIT_MS : MEASURE_MS);
        measure_send(adder);
    }
    if (adder->state == LINK_REFUSING && adder->probe_left == 0 && mono_is_past(adder->probe_at, now))
        probe_send(adder);
}
