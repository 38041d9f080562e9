#include "bench.h"

#include <stdio.h>
#include <unistd.h>

#include "base/id.h"

/* Puts the database into a URL that may have a path and options already. */
static void name_database(struct bench *bench)
{
    const char *url = bench->server.url;
    const char *options = strchr(url, '?');
    const char *hosts = strstr(url, "://");
    assert_non_null(hosts);
    const char *path = strchr(hosts + 3, '/');
    size_t len = path != NULL ? (size_t)(path - url) : options != NULL ? (size_t)(options - url) : strlen(url);
    snprintf(bench->url, sizeof(bench->url), "%.*s/%s%s", (int)len, url, bench->database,
             options == NULL ? "" : options);
}

static struct store *open_store(struct bench *bench, const char *worker)
{
    struct store_options options = {.url = bench->url, .worker = worker, .lease_ms = LEASE_MS};
    struct error err = {{0}};
    struct store *store = store_open(&options, &err);
    if (store == NULL)
        fail_msg("store_open: %s", err.text);
    return store;
}

int bench_setup(void **state)
{
    char id[ID_TEXT_BYTES];
    struct bench *bench = memory_alloc(sizeof(*bench));
    struct error err = {{0}};
    store_init();
    server_start(&bench->server);
    snprintf(bench->database, sizeof(bench->database), "waybill_test_%s", id_new(clock_wall(), id));
    name_database(bench);
    bench->stores[0] = open_store(bench, "worker-a");
    bench->stores[1] = open_store(bench, "worker-b");
    bench->a = store_client_new(bench->stores[0]);
    bench->b = store_client_new(bench->stores[1]);
    bench->raw = mongoc_client_new(bench->url);
    mongoc_client_set_error_api(bench->raw, 2);
    bench->arena = arena_new();
    bench->epochs[0] = SLICE_LITERAL("epoch-1");
    if (store_prepare(bench->a, &err) != STORE_OK)
        fail_msg("store_prepare: %s", err.text);
    *state = bench;
    return 0;
}

int bench_teardown(void **state)
{
    struct bench *bench = *state;
    if (bench == NULL) /* the set-up failed */
        return 0;
    mongoc_database_t *database = mongoc_client_get_database(bench->raw, bench->database);
    mongoc_database_drop(database, NULL);
    mongoc_database_destroy(database);
    mongoc_client_destroy(bench->raw);
    store_client_free(bench->a);
    store_client_free(bench->b);
    store_close(bench->stores[0]);
    store_close(bench->stores[1]);
    store_cleanup();
    server_stop(&bench->server);
    arena_free(bench->arena);
    free(bench);
    return 0;
}

const char *new_id(struct bench *bench)
{
    return arena_printf(bench->arena, "evt_%llu", (unsigned long long)++bench->serial).base;
}

static struct slice new_entry(struct bench *bench)
{
    return arena_printf(bench->arena, "%lld-%llu", (long long)clock_wall().ms, (unsigned long long)++bench->serial);
}

struct delivery delivery_new(struct bench *bench, const char *event_id)
{
    struct delivery delivery = {
        .event =
            {
                .source = SLICE_LITERAL("demo"),
                .event_id = slice_of(event_id),
                .type = SLICE_LITERAL("parcel.delivered"),
                .occurred_at = SLICE_LITERAL("2026-01-31T12:00:00+01:00"),
                .received_at = clock_wall(),
                .content_type = SLICE_LITERAL("application/json"),
                .headers = SLICE_LITERAL("webhook-id: 1\n"),
                .attempt = 1,
            },
        .deliveries = 1,
    };
    delivery.key = arena_printf(bench->arena, "demo/%s", event_id);
    delivery.event.ingest_id = arena_printf(bench->arena, "ing-%llu", (unsigned long long)++bench->serial);
    delivery.event.body = arena_printf(bench->arena, "{\"event_id\":\"%s\"}", event_id);
    delivery.entry_id = new_entry(bench);
    return delivery;
}

/* Only what a take fills in. */
static struct delivery as_taken(const struct delivery *first)
{
    return (struct delivery){.event = first->event,
                             .key = first->key,
                             .entry_id = first->entry_id,
                             .partition = first->partition,
                             .deliveries = first->deliveries};
}

struct delivery delivery_again(struct bench *bench, const struct delivery *first, const char *body)
{
    struct delivery again = as_taken(first);
    again.entry_id = new_entry(bench);
    again.event.ingest_id = arena_printf(bench->arena, "ing-%llu", (unsigned long long)++bench->serial);
    if (body != NULL)
        again.event.body = slice_of(body);
    return again;
}

struct delivery delivery_retry(struct bench *bench, const struct delivery *first, uint32_t attempt)
{
    struct delivery retry = as_taken(first);
    retry.entry_id = new_entry(bench);
    retry.event.attempt = attempt;
    retry.deliveries = 1;
    return retry;
}

struct delivery delivery_redelivered(struct bench *bench, const struct delivery *first)
{
    struct delivery again = as_taken(first);
    (void)bench;
    again.deliveries++;
    return again;
}

struct store_claim claim_new(struct bench *bench)
{
    struct store_claim claim = {.epochs = bench->epochs, .lease_ms = LEASE_MS, .arena = bench->arena};
    char id[ID_TEXT_BYTES];
    snprintf(claim.token, sizeof(claim.token), "token-%s", id_new(clock_wall(), id));
    return claim;
}

enum claim_state claim_one(struct store_client *client, const struct store_claim *claim, struct delivery *delivery)
{
    struct error err = {{0}};
    if (store_claim(client, claim, delivery, 1, &err) != STORE_OK)
        fail_msg("store_claim: %s", err.text);
    return delivery->claim;
}

void commit_one(struct store_client *client, const struct store_claim *claim, struct delivery *delivery)
{
    struct error err = {{0}};
    if (store_commit(client, claim, delivery, 1, &err) != STORE_OK)
        fail_msg("store_commit: %s", err.text);
}

static void ran(struct delivery *delivery)
{
    delivery->ended_at = clock_wall();
    delivery->started_at = (wall_time){delivery->ended_at.ms - 7};
    delivery->script_hash = SLICE_LITERAL("hash-1");
    delivery->outcome = (struct outcome){.retry_after_ms = -1};
}

void ran_well(struct delivery *delivery)
{
    ran(delivery);
    delivery->decision = DECISION_SUCCEED;
    delivery->outcome.kind = OUTCOME_SUCCESS;
    delivery->outcome.result = SLICE_LITERAL("{\"parcel\":\"P1\",\"n\":3}");
}

void ran_badly(struct delivery *delivery, enum decision_kind decision, int64_t delay_ms, const char *reason)
{
    ran(delivery);
    delivery->decision = decision;
    delivery->outcome.kind = decision == DECISION_SNOOZE ? OUTCOME_SNOOZE : OUTCOME_TRANSIENT;
    delivery->outcome.message = SLICE_LITERAL("the depot does not answer");
    delivery->outcome.error_kind = SLICE_LITERAL("depot_away");
    delivery->retry = (struct retry_decision){decision == DECISION_RETRY, delay_ms, slice_of(reason)};
    if (decision != DECISION_SNOOZE)
        delivery->failures++;
}

void add_write(struct bench *bench, struct delivery *delivery, const char *collection, const char *id,
               const char *update)
{
    struct outcome *outcome = &delivery->outcome;
    struct effect_write *writes = arena_alloc(bench->arena, (outcome->n_writes + 1) * sizeof(*writes));
    if (outcome->n_writes > 0)
        memcpy(writes, outcome->writes, outcome->n_writes * sizeof(*writes));
    writes[outcome->n_writes++] = (struct effect_write){slice_of(collection), slice_of(id), slice_of(update)};
    outcome->writes = writes;
}

void add_publish(struct bench *bench, struct delivery *delivery, const char *topic, const char *payload)
{
    delivery->outcome.publishes = arena_alloc(bench->arena, sizeof(struct effect_publish));
    delivery->outcome.publishes[0] = (struct effect_publish){slice_of(topic), slice_of(payload)};
    delivery->outcome.n_publishes = 1;
}

/* --- the database as it is ------------------------------------------------------------------------------------- */

static mongoc_collection_t *collection_of(struct bench *bench, const char *name)
{
    return mongoc_client_get_collection(bench->raw, bench->database, name);
}

bson_t *document(struct bench *bench, const char *collection, struct slice id)
{
    mongoc_collection_t *from = collection_of(bench, collection);
    bson_t filter = BSON_INITIALIZER, *copy = NULL;
    const bson_t *doc = NULL;
    bson_error_t error = {0};
    bson_append_utf8(&filter, "_id", -1, id.base, (int)id.len);
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(from, &filter, NULL, NULL);
    if (mongoc_cursor_next(cursor, &doc))
        copy = bson_copy(doc);
    if (mongoc_cursor_error(cursor, &error))
        fail_msg("find: %s", error.message);
    mongoc_cursor_destroy(cursor);
    mongoc_collection_destroy(from);
    bson_destroy(&filter);
    return copy;
}

int64_t count(struct bench *bench, const char *collection, const char *filter_json)
{
    mongoc_collection_t *from = collection_of(bench, collection);
    bson_error_t error = {0};
    bson_t *filter = bson_new_from_json((const uint8_t *)filter_json, -1, &error);
    assert_non_null(filter);
    int64_t n = mongoc_collection_count_documents(from, filter, NULL, NULL, NULL, &error);
    if (n < 0)
        fail_msg("count: %s", error.message);
    bson_destroy(filter);
    mongoc_collection_destroy(from);
    return n;
}

static bool locate(const bson_t *doc, const char *path, bson_iter_t *found)
{
    bson_iter_t it;
    return doc != NULL && bson_iter_init(&it, doc) && bson_iter_find_descendant(&it, path, found);
}

int64_t number_at(struct bench *bench, const char *collection, struct slice id, const char *path)
{
    bson_t *doc = document(bench, collection, id);
    bson_iter_t it;
    int64_t value = -1;
    if (locate(doc, path, &it))
        value = BSON_ITER_HOLDS_DATE_TIME(&it) ? bson_iter_date_time(&it) : bson_iter_as_int64(&it);
    bson_destroy(doc);
    return value;
}

const char *text_at(struct bench *bench, const char *collection, struct slice id, const char *path)
{
    bson_t *doc = document(bench, collection, id);
    bson_iter_t it;
    const char *text = "";
    if (locate(doc, path, &it) && BSON_ITER_HOLDS_UTF8(&it))
        text = arena_printf(bench->arena, "%s", bson_iter_utf8(&it, NULL)).base;
    bson_destroy(doc);
    return text;
}

bool exists_at(struct bench *bench, const char *collection, struct slice id, const char *path)
{
    bson_t *doc = document(bench, collection, id);
    bson_iter_t it;
    bool there = locate(doc, path, &it);
    bson_destroy(doc);
    return there;
}

size_t length_at(struct bench *bench, const char *collection, struct slice id, const char *path)
{
    bson_t *doc = document(bench, collection, id);
    bson_iter_t it, child;
    size_t n = 0;
    if (locate(doc, path, &it) && BSON_ITER_HOLDS_ARRAY(&it) && bson_iter_recurse(&it, &child))
        while (bson_iter_next(&child))
            n++;
    bson_destroy(doc);
    return n;
}

void change(struct bench *bench, const char *collection, struct slice id, const char *update_json)
{
    mongoc_collection_t *in = collection_of(bench, collection);
    bson_t filter = BSON_INITIALIZER;
    bson_error_t error = {0};
    bson_t *update = bson_new_from_json((const uint8_t *)update_json, -1, &error);
    assert_non_null(update);
    bson_append_utf8(&filter, "_id", -1, id.base, (int)id.len);
    if (!mongoc_collection_update_one(in, &filter, update, NULL, NULL, &error))
        fail_msg("update: %s", error.message);
    bson_destroy(update);
    bson_destroy(&filter);
    mongoc_collection_destroy(in);
}

static bool set_failpoint(struct bench *bench, const char *app, const char *mode, const char *data)
{
    bson_error_t error = {0};
    bson_t reply;
    char text[1024], data_text[800] = "";
    if (data != NULL)
        snprintf(data_text, sizeof(data_text), ",\"data\":{\"appName\":\"%s\",%s}", app, data);
    snprintf(text, sizeof(text), "{\"configureFailPoint\":\"failCommand\",\"mode\":%s%s}", mode, data_text);
    bson_t *command = bson_new_from_json((const uint8_t *)text, -1, &error);
    if (command == NULL)
        fail_msg("%s: %s", error.message, text);
    bool ok = mongoc_client_command_simple(bench->raw, "admin", command, NULL, &reply, &error);
    bson_destroy(&reply);
    bson_destroy(command);
    return ok;
}

void fail_commands_of(struct bench *bench, const char *app, const char *mode, const char *data)
{
    if (!set_failpoint(bench, app, mode, data))
        skip(); /* a server that was started without enableTestCommands */
}

void fail_commands(struct bench *bench, const char *mode, const char *data)
{
    fail_commands_of(bench, "waybill-worker", mode, data);
}

void fail_no_more(struct bench *bench)
{
    set_failpoint(bench, NULL, "\"off\"", NULL);
}

struct store *patient_store(struct bench *bench, const char *appname)
{
    char url[800];
    struct error err = {{0}};
    snprintf(url, sizeof(url), "%s%cappname=%s", bench->url, strchr(bench->url, '?') == NULL ? '?' : '&', appname);
    struct store_options options = {.url = url, .worker = "patient", .lease_ms = 30000};
    struct store *store = store_open(&options, &err);
    if (store == NULL)
        fail_msg("store_open: %s", err.text);
    return store;
}
