/* What operators see and do: events and dead letters shown and listed, letters replayed and discarded. */
#include "client.h"
#include "document.h"
#include "json_plain.h"

#include <stdio.h>

static enum store_result show_once(struct store_client *client, mongoc_collection_t *collection, struct slice key,
                                   struct buf *out, struct error *err)
{
    bson_t *doc = NULL;
    client_begin(client);
    enum store_result result = client_get(client, collection, key, &doc, err);
    if (result != STORE_OK)
        return result;
    struct json_writer w = json_writer(out);
    json_plain(&w, doc);
    bson_destroy(doc);
    return STORE_OK;
}

static enum store_result show(struct store_client *client, mongoc_collection_t *collection, struct slice key,
                              struct buf *out, struct error *err)
{
    enum store_result result = show_once(client, collection, key, out, err);
    return client_should_repeat(client, result) ? show_once(client, collection, key, out, err) : result;
}

enum store_result store_event_show(struct store_client *client, struct slice key, struct buf *out, struct error *err)
{
    return show(client, client->events, key, out, err);
}

enum store_result store_dead_show(struct store_client *client, struct slice key, struct buf *out, struct error *err)
{
    return show(client, client->letters, key, out, err);
}

static enum store_result find_once(struct store_client *client, mongoc_collection_t *collection, struct slice id,
                                   bson_t **doc, struct error *err)
{
    client_begin(client);
    return client_get(client, collection, id, doc, err);
}

enum store_result store_find(struct store_client *client, struct slice collection, struct slice id, struct arena *arena,
                             struct slice *json, struct error *err)
{
    mongoc_collection_t *target = client_collection(client, collection, err);
    if (target == NULL)
        return STORE_REFUSED;
    bson_t *doc = NULL;
    enum store_result result = find_once(client, target, id, &doc, err);
    if (client_should_repeat(client, result))
        result = find_once(client, target, id, &doc, err);
    mongoc_collection_destroy(target);
    if (result != STORE_OK)
        return result;
    size_t len = 0;
    char *text = bson_as_relaxed_extended_json(doc, &len);
    bson_destroy(doc);
    if (text == NULL) {
        error_set(err, "%.*s/%.*s cannot be told as Extended JSON", SLICE_ARG(collection), SLICE_ARG(id));
        return STORE_REFUSED;
    }
    *json = arena_copy(arena, text, len);
    bson_free(text);
    return STORE_OK;
}

static void dead_filter(const struct store_dead_filter *filter, bson_t *out)
{
    if (filter->status != NULL)
        put_word(out, "review.status", filter->status);
    if (filter->source != NULL)
        put_word(out, "source", filter->source);
    if (filter->reason != NULL)
        put_word(out, "reason", filter->reason);
    if (filter->after != NULL)
        put_operator_text(out, "_id", "$gt", slice_of(filter->after));
}

static void dead_list_opts(const struct store_dead_filter *filter, bson_t *opts)
{
    static const char *const fields[] = {
        "source", "event_id",          "type",    "reason", "error", "attempt", "failures",
        "deaths", "first_received_at", "died_at", "review"};
    bson_t part;
    put_open(opts, "sort", &part);
    if (filter->after != NULL)
        put_int(&part, "_id", 1);
    else
        put_int(&part, "died_at", -1);
    put_close(opts, &part);
    put_open(opts, "projection", &part);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        put_int(&part, fields[i], 1);
    put_close(opts, &part);
    put_long(opts, "skip", filter->skip > 0 ? filter->skip : 0);
    if (filter->limit > 0)
        put_long(opts, "limit", filter->limit);
}

static void add_summary(void *arg, const bson_t *doc)
{
    json_plain(arg, doc);
}

static enum store_result dead_list_once(struct store_client *client, const struct store_dead_filter *filter,
                                        struct buf *out, struct error *err)
{
    bson_t query = BSON_INITIALIZER, opts = BSON_INITIALIZER;
    struct buf list = {0};
    struct json_writer w = json_writer(&list);
    client_begin(client);
    dead_filter(filter, &query);
    dead_list_opts(filter, &opts);
    json_array_open(&w);
    enum store_result result = client_find(client, client->letters, &query, &opts, add_summary, &w, err);
    json_array_close(&w);
    if (result == STORE_OK)
        buf_add_slice(out, buf_slice(&list));
    buf_free(&list);
    bson_destroy(&query);
    bson_destroy(&opts);
    return result;
}

enum store_result store_dead_list(struct store_client *client, const struct store_dead_filter *filter, struct buf *out,
                                  struct error *err)
{
    enum store_result result = dead_list_once(client, filter, out, err);
    return client_should_repeat(client, result) ? dead_list_once(client, filter, out, err) : result;
}

static enum store_result dead_count_once(struct store_client *client, const struct store_dead_filter *filter,
                                         int64_t *count, struct error *err)
{
    bson_t query = BSON_INITIALIZER;
    bson_error_t error = {0};
    client_begin(client);
    dead_filter(filter, &query);
    *count = mongoc_collection_count_documents(client->letters, &query, NULL, NULL, NULL, &error);
    bson_destroy(&query);
    return *count < 0 ? client_fail(client, &error, err) : STORE_OK;
}

enum store_result store_dead_count(struct store_client *client, const struct store_dead_filter *filter, int64_t *count,
                                   struct error *err)
{
    enum store_result result = dead_count_once(client, filter, count, err);
    return client_should_repeat(client, result) ? dead_count_once(client, filter, count, err) : result;
}
