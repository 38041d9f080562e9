#include <stdlib.h>

#include "queue/adder.h"
#include "queue/command.h"
#include "queue/reply_error.h"

#define PARTITIONS_MAX    1024
#define PENDING_MAX       (1u << 20)
#define PENDING_MAX_BYTES (64u << 20) /* what a stalled server can make us hold */

/* ---- making and freeing ---- */

static void partition_init(struct adder_partition *partition, uint32_t number)
{
    queue_keys_init(&partition->keys, number);
    command_text(&partition->head, "XADD");
    command_part(&partition->head, partition->keys.of[KEY_EVENTS]);
    command_text(&partition->head, "*");
}

static bool check_options(const struct queue_add_options *options, struct error *err)
{
    if (options->partitions < 1 || options->partitions > PARTITIONS_MAX || options->timeout_ms < 1 ||
        options->max_pending < 1 || options->max_pending > PENDING_MAX) {
        error_set(err, "adding needs 1 to %d partitions, a time limit of at least 1 ms and 1 to %u pending events",
                  PARTITIONS_MAX, PENDING_MAX);
        return false;
    }
    return true;
}

static void ring_init(struct queue_adder *adder)
{
    size_t size = 1;
    while (size < adder->options.max_pending)
        size *= 2;
    adder->ring = memory_alloc(size * sizeof(*adder->ring));
    adder->ring_mask = size - 1;
}

struct queue_adder *queue_adder_new(const struct queue_add_options *options, const struct loop_io *io,
                                    struct error *err)
{
    struct redis_url url;
    if (!check_options(options, err) || !redis_url_parse(options->url, &url, err))
        return NULL;
    struct queue_adder *adder = memory_alloc(sizeof(*adder));
    adder->url = url;
    adder->options = *options;
    adder->options.url = NULL;
    adder->io = *io;
    adder->measured = -1;
    adder->arena = arena_new();
    adder->partitions = memory_alloc(options->partitions * sizeof(*adder->partitions));
    for (uint32_t i = 0; i < options->partitions; i++)
        partition_init(&adder->partitions[i], i);
    ring_init(adder);
    memory_wipe(&url, sizeof(url));
    if (!link_start(adder)) {
        error_set(err, "the event loop has no timer to give");
        queue_adder_free(adder);
        return NULL;
    }
    return adder;
}

void queue_adder_free(struct queue_adder *adder)
{
    if (adder == NULL)
        return;
    link_stop(adder);
    for (uint32_t i = 0; i < adder->options.partitions; i++)
        buf_free(&adder->partitions[i].head);
    free(adder->partitions);
    free(adder->ring);
    buf_free(&adder->command);
    arena_free(adder->arena);
    memory_wipe(&adder->url, sizeof(adder->url));
    free(adder);
}

/* ---- events and their answers ---- */

static struct pending *at(const struct queue_adder *adder, uint64_t position)
{
    return &adder->ring[position & adder->ring_mask];
}

void adder_complete(struct queue_adder *adder, uint64_t before, bool may_succeed)
{
    while (adder->head < before) {
        /* A copy, and off the ring first: the callback may add the next event. */
        struct pending done = *at(adder, adder->head);
        adder->head++;
        if (adder->answered < adder->head)
            adder->answered = adder->head;
        adder->pending_bytes -= done.bytes;
        done.on_added(done.arg, may_succeed && done.added ? ADD_OK : ADD_UNAVAILABLE);
    }
}

static void on_xadd(redisAsyncContext *redis, void *reply_arg, void *arg)
{
    struct queue_adder *adder = redis->data;
    const redisReply *reply = reply_arg;
    (void)arg;
    if (reply == NULL || adder->redis != redis)
        return; /* the link ends, and with it all that is pending */
    struct pending *pending = at(adder, adder->answered++);
    pending->added = reply->type == REDIS_REPLY_STRING;
    if (reply->type == REDIS_REPLY_ERROR)
        link_refused(adder, reply->str);
    else
        backoff_reset(&adder->reprobe);
    if (adder->options.ack_replicas == 0)
        adder_complete(adder, adder->answered, true);
}

/* arg: the position before which the events are that this WAIT was for. */
static void on_wait(redisAsyncContext *redis, void *reply_arg, void *arg)
{
    struct queue_adder *adder = redis->data;
    const redisReply *reply = reply_arg;
    if (reply == NULL || adder->redis != redis)
        return;
    control_answered(adder);
    bool enough = reply->type == REDIS_REPLY_INTEGER && reply->integer >= (long long)adder->options.ack_replicas;
    if (reply->type == REDIS_REPLY_ERROR)
        link_refused(adder, reply->str);
    else if (!enough)
        link_refused(adder, "NOREPLICAS fewer replicas than WAYBILL_ACK_REPLICAS have the event");
    adder_complete(adder, (uint64_t)(uintptr_t)arg, enough);
}

/* One WAIT for all events of a turn, in the same write. */
void adder_append_wait(struct queue_adder *adder)
{
    if (adder->options.ack_replicas == 0 || adder->waited == adder->tail)
        return;
    char replicas[20], ms[20];
    /* Half the time limit, so that too few replicas is an answer and not a broken link. */
    const struct slice parts[] = {
        SLICE_LITERAL("WAIT"),
        command_digits(replicas, adder->options.ack_replicas),
        command_digits(ms, (uint64_t)(adder->options.timeout_ms / 2 + 1)),
    };
    if (control_send(adder, on_wait, (void *)(uintptr_t)adder->tail, parts, 3))
        adder->waited = adder->tail;
}

/* ---- adding ---- */

static const struct adder_partition *partition_of(struct queue_adder *adder, const struct event *event)
{
    if (adder->options.partitions == 1)
        return &adder->partitions[0];
    struct slice key = event_key(event, adder->arena);
    return &adder->partitions[event_partition(key, adder->options.partitions)];
}

/* The whole command: "XADD key * field value …". */
static struct slice write_command(struct queue_adder *adder, const struct event *event)
{
    struct envelope_field fields[ENVELOPE_MAX_FIELDS];
    const struct slice head = buf_slice(&partition_of(adder, event)->head);
    size_t n = envelope_encode(event, adder->arena, fields);
    size_t room = COMMAND_FRAME_BYTES + head.len;
    for (size_t i = 0; i < n; i++)
        room += fields[i].name.len + fields[i].value.len + 2 * COMMAND_FRAME_BYTES;

    buf_clear(&adder->command);
    buf_reserve(&adder->command, room);
    char *end = command_put(command_put_count(adder->command.data, '*', 3 + 2 * n), head);
    for (size_t i = 0; i < n; i++)
        end = command_put_part(command_put_part(end, fields[i].name), fields[i].value);
    arena_reset(adder->arena);
    return (struct slice){adder->command.data, (size_t)(end - adder->command.data)};
}

bool queue_add(struct queue_adder *adder, const struct event *event, queue_added on_added, void *arg)
{
    if (adder->state != LINK_READY || adder->drop || adder->lost ||
        queue_adder_pending(adder) >= adder->options.max_pending || adder->pending_bytes > PENDING_MAX_BYTES)
        return false;
    struct slice command = write_command(adder, event);
    if (redisAsyncFormattedCommand(adder->redis, on_xadd, NULL, command.base, command.len) != REDIS_OK)
        return false;
    *at(adder, adder->tail++) =
        (struct pending){.on_added = on_added, .arg = arg, .sent_at = clock_mono(), .bytes = command.len};
    adder->pending_bytes += command.len;
    return true;
}

/* ---- state ---- */

bool queue_adder_is_ready(const struct queue_adder *adder)
{
    return adder->state == LINK_READY && !adder->drop && !adder->lost;
}

int64_t queue_adder_backlog(const struct queue_adder *adder)
{
    return adder->measured < 0 ? -1 : adder->measured + (int64_t)(adder->tail - adder->measured_from);
}

bool queue_adder_is_full(const struct queue_adder *adder)
{
    return adder->options.max_backlog > 0 && queue_adder_backlog(adder) > adder->options.max_backlog;
}

size_t queue_adder_pending(const struct queue_adder *adder)
{
    return (size_t)(adder->tail - adder->head);
}

uint64_t queue_adder_connects(const struct queue_adder *adder)
{
    return adder->dials;
}

const char *queue_adder_problem(const struct queue_adder *adder)
{
    if (queue_adder_is_ready(adder))
        return "";
    return adder->reason.text[0] != '\0' ? adder->reason.text : "connecting to Redis";
}
