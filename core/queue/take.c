#include <stdlib.h>

#include "base/json.h"
#include "base/memory.h"
#include "queue/client.h"

#define SWEEP_EVERY_MS (60 * 1000)
#define UNSEEN_MS      (60 * 60 * 1000) /* a consumer without pending entries goes after so long */
#define WINDOW_WAIT_MS 50

/* Of an entry that is no envelope. */
#define RENDERED_NAME_MAX_BYTES  256
#define RENDERED_VALUE_MAX_BYTES (64 * 1024)
#define RENDERED_MAX_BYTES       (1024 * 1024)

/* ---- entries become deliveries ---- */

static struct slice cut(struct slice text, size_t max)
{
    return (struct slice){text.base, text.len < max ? text.len : max};
}

/* The fields as a JSON object, for people: bytes that are not UTF-8 are replaced, and what would not fit into a dead
 * letter is cut off. */
static struct slice render_fields(const struct envelope_field *fields, size_t n, struct arena *arena)
{
    struct buf text = {0};
    struct json_writer w = json_writer(&text);
    json_object_open(&w);
    for (size_t i = 0; i < n && text.len < RENDERED_MAX_BYTES; i++) {
        struct slice name = cut(fields[i].name, RENDERED_NAME_MAX_BYTES);
        json_member_string(&w, arena_copy(arena, name.base, name.len).base,
                           cut(fields[i].value, RENDERED_VALUE_MAX_BYTES));
    }
    json_object_close(&w);
    struct slice copy = arena_copy(arena, text.data, text.len);
    buf_free(&text);
    return copy;
}

/* "<ms>-<sequence>" */
static wall_time time_of_entry(struct slice id)
{
    int64_t ms = 0;
    for (size_t i = 0; i < id.len && id.base[i] >= '0' && id.base[i] <= '9' && ms < INT64_MAX / 10 - 9; i++)
        ms = ms * 10 + (id.base[i] - '0');
    return (wall_time){ms};
}

static void mark_malformed(struct delivery *delivery, const struct envelope_field *fields, size_t n,
                           const struct error *reason, struct arena *arena)
{
    delivery->malformed = arena_copy(arena, reason->text, strlen(reason->text));
    delivery->event = (struct event){
        .attempt = 1,
        .received_at = time_of_entry(delivery->entry_id),
        .body = render_fields(fields, n, arena),
    };
    delivery->key = arena_printf(arena, "malformed/%.*s", SLICE_ARG(delivery->entry_id));
}

/* Names stay in the reply: they live as long as it does, which is long enough for decoding. */
static void decode_fields(struct delivery *delivery, const redisReply *list, struct arena *arena)
{
    size_t n = list->elements / 2;
    struct envelope_field *fields = arena_alloc(arena, (n + 1) * sizeof(*fields));
    for (size_t i = 0; i < n; i++) {
        struct slice value = reply_slice(list->element[2 * i + 1]);
        fields[i].name = reply_slice(list->element[2 * i]);
        fields[i].value = arena_copy(arena, value.base, value.len);
    }
    struct error reason;
    if (envelope_decode(fields, n, &delivery->event, &reason))
        delivery->key = event_key(&delivery->event, arena);
    else
        mark_malformed(delivery, fields, n, &reason, arena);
}

static bool add_delivery(struct queue_batch *batch, uint32_t partition, const redisReply *id, const redisReply *fields,
                         uint32_t deliveries)
{
    struct slice entry_id = reply_slice(id);
    if (entry_id.len == 0 || !reply_is_list(fields, 0))
        return false;
    struct delivery *delivery = &batch->deliveries[batch->n++];
    *delivery = (struct delivery){
        .entry_id = arena_copy(batch->arena, entry_id.base, entry_id.len),
        .partition = partition,
        .deliveries = deliveries,
    };
    decode_fields(delivery, fields, batch->arena);
    return true;
}

/* An outage must not count as deliveries: what a lost answer handed to us goes back before we take anything else. The
 * entries of earlier batches go with it: by contract they are settled or given up by now. */
static enum queue_result clear_doubt(struct queue *queue, struct error *err)
{
    if (!queue->in_doubt)
        return QUEUE_OK;
    enum queue_result result = queue_begin(queue, err);
    if (result != QUEUE_OK)
        return result;
    for (uint32_t i = 0; i < queue->n_partitions; i++) {
        redis_pipeline_script(&queue->pipeline, SCRIPT_HAND_BACK, 1, 2);
        command_part(&queue->pipeline.text, queue->partitions[i].keys.of[KEY_EVENTS]);
        command_text(&queue->pipeline.text, QUEUE_GROUP);
        command_text(&queue->pipeline.text, queue->consumer);
    }
    result = queue_run(queue, err);
    queue->in_doubt = result != QUEUE_OK;
    return result;
}

/* What both ways of taking do first and last. */
static enum queue_result begin_taking(struct queue *queue, size_t max, struct queue_batch *batch, struct error *err)
{
    batch->deliveries = arena_alloc(batch->arena, (max + 1) * sizeof(*batch->deliveries));
    batch->n = 0;
    if (queue->consumer[0] != '\0' && max > 0)
        return clear_doubt(queue, err);
    error_set(err, "taking entries needs a consumer name and room for at least one");
    return QUEUE_REFUSED;
}

static enum queue_result end_taking(struct queue *queue, enum queue_result result, struct queue_batch *batch)
{
    if (result != QUEUE_OK) {
        batch->n = 0;
        queue->in_doubt = true;
    }
    return result;
}

/* ---- take ---- */

/* The partitions that one XREADGROUP asks. COUNT is per stream, so a batch smaller than the number of partitions asks
 * only some at a time, in turn. */
struct window {
    uint32_t first, n;
    size_t count; /* per stream */
};

static struct window next_window(struct queue *queue, size_t max)
{
    struct window window = {.first = queue->turn, .n = queue->n_partitions, .count = max / queue->n_partitions};
    if (window.count == 0) {
        window.n = (uint32_t)max;
        window.count = 1;
    }
    queue->turn = (window.first + window.n) % queue->n_partitions;
    return window;
}

static uint32_t window_partition(const struct queue *queue, const struct window *window, uint32_t i)
{
    return (window->first + i) % queue->n_partitions;
}

static void write_read(struct queue *queue, const struct window *window, int64_t wait_ms)
{
    struct redis_pipeline *pipeline = &queue->pipeline;
    bool blocks = wait_ms > 0; /* BLOCK 0 would be for ever */
    redis_pipeline_command(pipeline, (blocks ? 9u : 7u) + 2u * window->n);
    command_text(&pipeline->text, "XREADGROUP");
    command_text(&pipeline->text, "GROUP");
    command_text(&pipeline->text, QUEUE_GROUP);
    command_text(&pipeline->text, queue->consumer);
    command_text(&pipeline->text, "COUNT");
    command_number(&pipeline->text, (int64_t)window->count);
    if (blocks) {
        command_text(&pipeline->text, "BLOCK");
        command_number(&pipeline->text, wait_ms);
    }
    command_text(&pipeline->text, "STREAMS");
    for (uint32_t i = 0; i < window->n; i++)
        command_part(&pipeline->text, queue->partitions[window_partition(queue, window, i)].keys.of[KEY_EVENTS]);
    for (uint32_t i = 0; i < window->n; i++)
        command_text(&pipeline->text, ">");
}

static bool find_partition(const struct queue *queue, struct slice events, uint32_t *partition)
{
    for (uint32_t i = 0; i < queue->n_partitions; i++) {
        if (slice_equal(events, queue->partitions[i].keys.of[KEY_EVENTS])) {
            *partition = i;
            return true;
        }
    }
    return false;
}

/* One stream of XREADGROUP's answer: [name, [[id, fields], …]]. */
static bool read_stream(const struct queue *queue, const redisReply *stream, struct queue_batch *batch, size_t max)
{
    uint32_t partition;
    if (!reply_is_list(stream, 2) || !find_partition(queue, reply_slice(stream->element[0]), &partition))
        return false;
    const redisReply *entries = stream->element[1];
    if (!reply_is_list(entries, 0))
        return false;
    for (size_t i = 0; i < entries->elements; i++) {
        const redisReply *entry = entries->element[i];
        if (batch->n == max || !reply_is_list(entry, 2) ||
            !add_delivery(batch, partition, entry->element[0], entry->element[1], 1))
            return false;
    }
    return true;
}

/* XREADGROUP's answer, the last in the pipeline: nil, or the streams that had something. */
static bool read_streams(const struct queue *queue, struct queue_batch *batch, size_t max)
{
    const redisReply *streams = queue->pipeline.calls[queue->pipeline.n - 1].reply;
    if (streams->type == REDIS_REPLY_NIL)
        return true;
    if (!reply_is_list(streams, 0))
        return false;
    for (size_t i = 0; i < streams->elements; i++) {
        if (!read_stream(queue, streams->element[i], batch, max))
            return false;
    }
    return true;
}

static enum queue_result take_once(struct queue *queue, size_t max, int64_t wait_ms, struct queue_batch *batch,
                                   struct error *err)
{
    enum queue_result result = queue_begin(queue, err);
    if (result != QUEUE_OK)
        return result;
    if (!connection_set_timeout(queue, queue->timeout_ms + wait_ms, err))
        return QUEUE_UNAVAILABLE;
    struct window window = next_window(queue, max);
    for (uint32_t i = 0; i < window.n; i++)
        queue_ask_epoch(queue, window_partition(queue, &window, i));
    write_read(queue, &window, window.n < queue->n_partitions && wait_ms > WINDOW_WAIT_MS ? WINDOW_WAIT_MS : wait_ms);
    result = queue_run(queue, err);
    if (result == QUEUE_OK && !read_streams(queue, batch, max))
        return queue_nonsense(queue, "XREADGROUP", err);
    for (uint32_t i = 0; result == QUEUE_OK && i < window.n; i++)
        result = queue_check_epoch(queue, window_partition(queue, &window, i), queue->pipeline.calls[i].reply, err);
    return result;
}

enum queue_result queue_take(struct queue *queue, size_t max, int64_t wait_ms, struct queue_batch *batch,
                             struct error *err)
{
    enum queue_result result = begin_taking(queue, max, batch, err);
    mono_time end = mono_after_ms(clock_mono(), wait_ms);
    int64_t left_ms = wait_ms > 0 ? wait_ms : 0;
    while (result == QUEUE_OK && batch->n == 0) {
        result = take_once(queue, max, left_ms, batch, err);
        if (left_ms == 0)
            break;
        left_ms = mono_elapsed_ms(clock_mono(), end);
        if (left_ms <= 0)
            break;
    }
    return end_taking(queue, result, batch);
}

/* ---- reclaim ---- */

static void write_reclaim(struct queue *queue, uint32_t partition, size_t max)
{
    struct redis_pipeline *pipeline = &queue->pipeline;
    redis_pipeline_script(pipeline, SCRIPT_RECLAIM, 1, 4);
    command_part(&pipeline->text, queue->partitions[partition].keys.of[KEY_EVENTS]);
    command_text(&pipeline->text, QUEUE_GROUP);
    command_text(&pipeline->text, queue->consumer);
    command_number(&pipeline->text, queue->lease_ms);
    command_number(&pipeline->text, (int64_t)max);
}

static void write_leave(struct queue *queue, const char *consumer)
{
    struct redis_pipeline *pipeline = &queue->pipeline;
    for (uint32_t i = 0; i < queue->n_partitions; i++) {
        redis_pipeline_script(pipeline, SCRIPT_LEAVE, 1, 3);
        command_part(&pipeline->text, queue->partitions[i].keys.of[KEY_EVENTS]);
        command_text(&pipeline->text, QUEUE_GROUP);
        command_text(&pipeline->text, consumer);
        command_number(&pipeline->text, UNSEEN_MS);
    }
}

static bool read_reclaimed(const redisReply *list, uint32_t partition, struct queue_batch *batch, size_t max)
{
    if (!reply_is_list(list, 0))
        return false;
    for (size_t i = 0; i < list->elements; i++) {
        const redisReply *entry = list->element[i];
        int64_t deliveries;
        if (batch->n == max || !reply_is_list(entry, 3) || !reply_number(entry->element[1], &deliveries))
            return false;
        uint32_t counted = deliveries < 1 ? 1 : deliveries > UINT32_MAX ? UINT32_MAX : (uint32_t)deliveries;
        if (!add_delivery(batch, partition, entry->element[0], entry->element[2], counted))
            return false;
    }
    return true;
}

/* One partition after the other, as what is left of max depends on what the earlier ones had. */
static enum queue_result reclaim_from(struct queue *queue, uint32_t partition, size_t max, struct queue_batch *batch,
                                      struct error *err)
{
    enum queue_result result = queue_begin(queue, err);
    if (result != QUEUE_OK)
        return result;
    write_reclaim(queue, partition, max - batch->n);
    queue_ask_epoch(queue, partition);
    result = queue_run(queue, err);
    if (result != QUEUE_OK)
        return result;
    if (!read_reclaimed(queue->pipeline.calls[0].reply, partition, batch, max))
        return queue_nonsense(queue, "reclaim", err);
    return queue_check_epoch(queue, partition, queue->pipeline.calls[1].reply, err);
}

static enum queue_result sweep_now_and_then(struct queue *queue, struct error *err)
{
    mono_time now = clock_mono();
    if (!mono_is_past(queue->sweep_at, now))
        return QUEUE_OK;
    queue->sweep_at = mono_after_ms(now, SWEEP_EVERY_MS);
    enum queue_result result = queue_begin(queue, err);
    if (result != QUEUE_OK)
        return result;
    write_leave(queue, "");
    return queue_run(queue, err);
}

enum queue_result queue_reclaim(struct queue *queue, size_t max, struct queue_batch *batch, struct error *err)
{
    enum queue_result result = begin_taking(queue, max, batch, err);
    if (result == QUEUE_OK)
        result = sweep_now_and_then(queue, err);
    for (uint32_t i = 0; result == QUEUE_OK && i < queue->n_partitions && batch->n < max; i++)
        result = reclaim_from(queue, (queue->turn + i) % queue->n_partitions, max, batch, err);
    return end_taking(queue, result, batch);
}

enum queue_result queue_leave(struct queue *queue, struct error *err)
{
    enum queue_result result = queue_begin(queue, err);
    if (result != QUEUE_OK)
        return result;
    write_leave(queue, queue->consumer);
    return queue_run(queue, err);
}
