/* A thread's client: one connection out of the pool, for as long as the thread lives. */
#include "client.h"

#include <stdlib.h>

#include "bson.h"

static mongoc_collection_t *open_collection(struct store_client *client, const char *name)
{
    mongoc_collection_t *collection = mongoc_client_get_collection(client->client, client->store->database, name);
    mongoc_read_prefs_t *primary = mongoc_read_prefs_new(MONGOC_READ_PRIMARY);
    mongoc_collection_set_read_prefs(collection, primary); /* whatever the URL says: we read what we wrote */
    mongoc_read_prefs_destroy(primary);
    return collection;
}

struct store_client *store_client_new(struct store *store)
{
    mongoc_client_t *pooled = mongoc_client_pool_pop(store->pool);
    if (pooled == NULL)
        return NULL;
    struct store_client *client = memory_alloc(sizeof(*client));
    client->store = store;
    client->client = pooled;
    client->events = open_collection(client, "events");
    client->letters = open_collection(client, "dead_letters");
    client->scratch = arena_new();
    bson_init(&client->unordered);
    put_bool(&client->unordered, "ordered", false);
    bson_init(&client->upsert);
    put_bool(&client->upsert, "upsert", true);
    bson_init(&client->unchecked);
    put_bool(&client->unchecked, "validate", false);
    client_begin(client);
    return client;
}

void store_client_free(struct store_client *client)
{
    if (client == NULL)
        return;
    mongoc_collection_destroy(client->events);
    mongoc_collection_destroy(client->letters);
    bson_destroy(&client->unordered);
    bson_destroy(&client->upsert);
    bson_destroy(&client->unchecked);
    mongoc_client_pool_push(client->store->pool, client->client);
    arena_free(client->scratch);
    free(client);
}

void client_begin(struct store_client *client)
{
    client->started = clock_mono();
    client->deadline = mono_after_ms(client->started, client->store->lease_ms / 2);
    client->cut_off = false;
    arena_reset(client->scratch);
}

bool client_should_repeat(const struct store_client *client, enum store_result result)
{
    int64_t at_once_ms = client->store->lease_ms / 12; /* half of the socket's time-out */
    return result == STORE_UNAVAILABLE && client->cut_off &&
           mono_elapsed_ms(client->started, clock_mono()) < (at_once_ms < 1000 ? at_once_ms : 1000);
}

bool client_is_in_time(const struct store_client *client, struct error *err)
{
    if (!mono_is_past(client->deadline, clock_mono()))
        return true;
    error_set(err, "the store is too slow: the call took more than half a lease");
    return false;
}

static enum store_result run_command(struct store_client *client, const bson_t *command, bool write, struct error *err)
{
    bson_error_t error = {0};
    bson_t reply;
    const char *database = client->store->database;
    bool ok = write
                  ? mongoc_client_write_command_with_opts(client->client, database, command, NULL, &reply, &error)
                  : mongoc_client_read_command_with_opts(client->client, database, command, NULL, NULL, &reply, &error);
    bson_destroy(&reply);
    return ok ? STORE_OK : client_fail(client, &error, err);
}

static enum store_result ping_once(struct store_client *client, struct error *err)
{
    bson_t command = BSON_INITIALIZER;
    client_begin(client);
    put_int(&command, "ping", 1);
    enum store_result result = run_command(client, &command, false, err);
    bson_destroy(&command);
    return result;
}

enum store_result store_ping(struct store_client *client, struct error *err)
{
    enum store_result result = ping_once(client, err);
    return client_should_repeat(client, result) ? ping_once(client, err) : result;
}

struct index_field {
    const char *name;
    int direction;
};

static enum store_result make_index(struct store_client *client, const char *collection, const char *name,
                                    const struct index_field *fields, size_t n, struct error *err)
{
    bson_t command = BSON_INITIALIZER, list, index, key;
    put_word(&command, "createIndexes", collection);
    put_open_array(&command, "indexes", &list);
    put_open(&list, "0", &index);
    put_open(&index, "key", &key);
    for (size_t i = 0; i < n; i++)
        put_int(&key, fields[i].name, fields[i].direction);
    put_close(&index, &key);
    put_word(&index, "name", name);
    put_close(&list, &index);
    put_close_array(&command, &list);
    enum store_result result = run_command(client, &command, true, err);
    bson_destroy(&command);
    if (result != STORE_OK)
        error_prefix(err, "index %s of %s", name, collection);
    return result;
}

static enum store_result prepare_once(struct store_client *client, struct error *err)
{
    static const struct index_field sweep[] = {{"status", 1}, {"sweep_at", 1}};
    static const struct index_field review[] = {{"review.status", 1}, {"died_at", -1}};
    client_begin(client);
    enum store_result result = make_index(client, "events", "status_sweep", sweep, 2, err);
    if (result != STORE_OK)
        return result;
    return make_index(client, "dead_letters", "review_newest", review, 2, err);
}

enum store_result store_prepare(struct store_client *client, struct error *err)
{
    enum store_result result = prepare_once(client, err);
    return client_should_repeat(client, result) ? prepare_once(client, err) : result;
}
