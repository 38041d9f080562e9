/* Redis is killed with SIGKILL again and again, at any instant, while events are added, taken, retried, buried and
 * dropped. Whatever was acknowledged must be in exactly one place afterwards, and nothing may be stuck in one. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "adder_helper.h"

#include "base/clock.h"
#include "base/id.h"

#define EVENTS   4000
#define CHAOS_MS 4000  /* longer on a machine that has seen too little by then, */
#define LIMIT_MS 60000 /* but no longer than this */
#define LEASE_MS 60

struct fate {
    bool acknowledged;
    bool drop_tried, drop_done; /* tried: it may be gone; done: it must be gone */
    int places;                 /* counted at the end */
};

static struct redis_server server;
static struct fate fates[EVENTS];
static struct arena *arena;
static struct error err;
static atomic_bool is_over;
static atomic_int kills;

static void *kill_again_and_again(void *arg)
{
    (void)arg;
    while (!atomic_load(&is_over)) {
        clock_sleep_ms(20 + id_random_below(180));
        server_restart(&server);
        atomic_fetch_add(&kills, 1);
    }
    return NULL;
}

/* ---- adding ---- */

static void on_added(void *arg, enum add_result result)
{
    ((struct fate *)arg)->acknowledged = result == ADD_OK;
}

static int add_some(struct queue_adder *adder, int next)
{
    char id[16];
    for (int i = 0; i < 20 && next < EVENTS; i++, next++) {
        snprintf(id, sizeof(id), "e%d", next);
        struct event event = sample_event(id, SLICE_LITERAL("{\"n\":1}"));
        if (!queue_add(adder, &event, on_added, &fates[next]))
            break;
    }
    return next;
}

/* ---- working ---- */

static struct fate *fate_of(struct slice event_id)
{
    return &fates[strtol(event_id.base + 1, NULL, 10)]; /* copies in an arena end in NUL */
}

static struct settlement choose(const struct delivery *delivery)
{
    struct settlement settlement = {.delivery = delivery};
    int64_t dice = id_random_below(100);
    settlement.kind = dice < 50 ? SETTLE_RETRY : dice < 70 ? SETTLE_DROP : dice < 80 ? SETTLE_DEAD : SETTLE_LEAVE;
    settlement.delay_ms = id_random_below(30);
    settlement.next_attempt = delivery->event.attempt + 1;
    settlement.reason = SLICE_LITERAL("chaos");
    if (settlement.kind == SETTLE_DROP)
        fate_of(delivery->event.event_id)->drop_tried = true;
    return settlement;
}

static void settle_batch(struct queue *queue, const struct queue_batch *batch)
{
    struct settlement *settlements = arena_alloc(arena, (batch->n + 1) * sizeof(*settlements));
    for (size_t i = 0; i < batch->n; i++)
        settlements[i] = choose(&batch->deliveries[i]);
    if (queue_settle(queue, settlements, batch->n, &err) != QUEUE_OK)
        return;
    for (size_t i = 0; i < batch->n; i++) {
        if (settlements[i].kind == SETTLE_DROP)
            fate_of(batch->deliveries[i].event.event_id)->drop_done = true;
    }
}

static void work(struct queue *queue)
{
    struct queue_batch batch = {.arena = arena};
    size_t moved;
    int64_t next_ms;
    enum queue_result result = queue_promote(queue, &moved, &next_ms, &err);
    assert_int_not_equal(result, QUEUE_REFUSED);
    if (queue_reclaim(queue, 20, &batch, &err) == QUEUE_OK && batch.n > 0)
        settle_batch(queue, &batch);
    if (queue_take(queue, 20, 0, &batch, &err) == QUEUE_OK && batch.n > 0)
        settle_batch(queue, &batch);
    arena_reset(arena);
}

/* ---- judging ---- */

static void count_keys(const char *field_of_key, const redisReply *fields)
{
    for (size_t i = 0; i + 1 < fields->elements; i += 2) {
        if (strcmp(fields->element[i]->str, field_of_key) == 0) {
            const char *value = fields->element[i + 1]->str;
            const char *slash = strrchr(value, '/');
            fates[strtol((slash == NULL ? value : slash + 1) + 1, NULL, 10)].places++;
        }
    }
}

static void count_stream(const char *key, const char *field)
{
    redisReply *reply = server_ask(&server, "XRANGE %s - +", key);
    for (size_t i = 0; i < reply->elements; i++)
        count_keys(field, reply->element[i]->element[1]);
    freeReplyObject(reply);
}

static void count_places(void)
{
    count_stream("waybill:{0}:events", "event_id");
    count_stream("waybill:{0}:dead", "key");
    redisReply *reply = server_ask(&server, "ZRANGE waybill:{0}:retry 0 -1");
    for (size_t i = 0; i < reply->elements; i++) {
        fates[strtol(strrchr(reply->element[i]->str, '/') + 2, NULL, 10)].places++;
        assert_int_equal(server_number(&server, "HEXISTS waybill:{0}:envelopes %s", reply->element[i]->str), 1);
    }
    assert_int_equal(server_number(&server, "HLEN waybill:{0}:envelopes"), reply->elements);
    freeReplyObject(reply);
}

static bool has_seen_enough(void)
{
    int acknowledged = 0, dropped = 0;
    for (int i = 0; i < EVENTS; i++) {
        acknowledged += fates[i].acknowledged;
        dropped += fates[i].drop_done;
    }
    return atomic_load(&kills) >= 3 && acknowledged > 100 && dropped > 10;
}

static void judge(void)
{
    int acknowledged = 0, dropped = 0;
    count_places();
    for (int i = 0; i < EVENTS; i++) {
        const struct fate *fate = &fates[i];
        acknowledged += fate->acknowledged;
        dropped += fate->drop_done;
        if (fate->places > 1 || (fate->drop_done && fate->places != 0) ||
            (fate->acknowledged && !fate->drop_tried && fate->places != 1))
            fail_msg("e%d: acknowledged %d, drop tried %d done %d, in %d places", i, fate->acknowledged,
                     fate->drop_tried, fate->drop_done, fate->places);
    }
    print_message("%d kills, %d acknowledged, %d dropped\n", atomic_load(&kills), acknowledged, dropped);
    assert_true(has_seen_enough());
}

/* Whatever is left must still be deliverable: nothing is stuck in the stream with no owner. */
static void drain(struct queue *queue)
{
    struct queue_depth depth = {.stream = 1};
    for (mono_time end = mono_after_ms(clock_mono(), 20000); depth.stream + depth.retry > 0;) {
        struct queue_batch batch = {.arena = arena};
        size_t moved;
        int64_t next_ms;
        assert_false(mono_is_past(end, clock_mono()));
        assert_result(queue_promote(queue, &moved, &next_ms, &err), QUEUE_OK, &err);
        assert_result(queue_reclaim(queue, 500, &batch, &err), QUEUE_OK, &err);
        if (batch.n == 0)
            assert_result(queue_take(queue, 500, 0, &batch, &err), QUEUE_OK, &err);
        struct settlement *settlements = arena_alloc(arena, (batch.n + 1) * sizeof(*settlements));
        for (size_t i = 0; i < batch.n; i++)
            settlements[i] = (struct settlement){.delivery = &batch.deliveries[i], .kind = SETTLE_DROP};
        assert_result(queue_settle(queue, settlements, batch.n, &err), QUEUE_OK, &err);
        assert_result(queue_measure(queue, &depth, &err), QUEUE_OK, &err);
        arena_reset(arena);
    }
    assert_int_equal(depth.pending, 0);
}

static void everything_is_in_one_place(void **state)
{
    struct queue_add_options options = {.url = server.url, .timeout_ms = 500, .partitions = 1, .max_pending = 1000};
    struct poll_loop *loop = poll_loop_new();
    struct queue_adder *adder = adder_start(loop, &options);
    struct queue *workers[2] = {sample_queue(&server, "one", LEASE_MS), sample_queue(&server, "two", LEASE_MS)};
    pthread_t killer;
    int next = 0;
    (void)state;
    arena = arena_new();
    assert_int_equal(pthread_create(&killer, NULL, kill_again_and_again, NULL), 0);
    mono_time start = clock_mono(), end = mono_after_ms(start, CHAOS_MS), limit = mono_after_ms(start, LIMIT_MS);
    while (!mono_is_past(end, clock_mono()) || (!has_seen_enough() && !mono_is_past(limit, clock_mono()))) {
        next = add_some(adder, next);
        poll_loop_run(loop, NULL, NULL, 2);
        work(workers[id_random_below(2)]);
    }
    atomic_store(&is_over, true);
    pthread_join(killer, NULL);
    server_restart(&server); /* it dies with the thread that started it: PR_SET_PDEATHSIG */
    assert_true(poll_loop_run(loop, adder_is_idle, adder, 5000));
    queue_adder_free(adder);
    judge();
    bool renewed;
    while (queue_open(workers[0], &renewed, &err) != QUEUE_OK) /* the old connection is broken */
        clock_sleep_ms(10);
    drain(workers[0]);
    queue_free(workers[0]);
    queue_free(workers[1]);
    poll_loop_free(loop);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(everything_is_in_one_place)};
    server_start(&server, NULL, NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    server_destroy(&server);
    return failed;
}
