/* Bulk writes: one kind of operation a bulk, unordered, so that totals and errors have one meaning. */
#include "client.h"

#include "bson.h"

void bulk_open(struct bulk *bulk, struct store_client *client, mongoc_collection_t *collection)
{
    *bulk = (struct bulk){.client = client};
    bulk->operation = mongoc_collection_create_bulk_operation_with_opts(collection, &client->unordered);
    bson_init(&bulk->reply);
}

void bulk_close(struct bulk *bulk)
{
    mongoc_bulk_operation_destroy(bulk->operation);
    bson_destroy(&bulk->reply);
}

bool bulk_insert(struct bulk *bulk, const bson_t *doc, struct error *err)
{
    bson_error_t error = {0};
    if (!mongoc_bulk_operation_insert_with_opts(bulk->operation, doc, &bulk->client->unchecked, &error)) {
        error_set(err, "%s", error.message);
        return false;
    }
    bulk->n++;
    return true;
}

bool bulk_update(struct bulk *bulk, const bson_t *filter, const bson_t *update, bool upsert, struct error *err)
{
    bson_error_t error = {0};
    const bson_t *opts = upsert ? &bulk->client->upsert : &bulk->client->unchecked;
    if (!mongoc_bulk_operation_update_one_with_opts(bulk->operation, filter, update, opts, &error)) {
        error_set(err, "%s", error.message);
        return false;
    }
    bulk->n++;
    return true;
}

static void read_errors(struct bulk *bulk)
{
    bson_t list;
    bson_iter_t it;
    if (!get_array(&bulk->reply, "writeErrors", &list) || !bson_iter_init(&it, &list))
        return;
    bulk->errors = arena_alloc(bulk->client->scratch, (bulk->n + 1) * sizeof(*bulk->errors));
    while (bulk->n_errors < bulk->n && bson_iter_next(&it)) {
        bson_t item;
        uint32_t len = 0;
        const uint8_t *data = NULL;
        if (!BSON_ITER_HOLDS_DOCUMENT(&it))
            continue;
        bson_iter_document(&it, &len, &data);
        int64_t index = bson_init_static(&item, data, len) ? get_int(&item, "index", -1) : -1;
        if (index < 0 || (size_t)index >= bulk->n)
            continue;
        bulk->errors[bulk->n_errors++] =
            (struct write_error){(size_t)index, get_int(&item, "code", 0), get_text(&item, "errmsg")};
    }
}

static bool has_concern_error(const struct bulk *bulk)
{
    bson_t list;
    return get_array(&bulk->reply, "writeConcernErrors", &list) && bson_count_keys(&list) > 0;
}

/* Per-operation errors that pass by themselves make the whole bulk one to repeat. */
static enum store_result judge_errors(const struct bulk *bulk, struct error *err)
{
    for (size_t i = 0; i < bulk->n_errors; i++) {
        if (!code_is_transient(bulk->errors[i].code))
            continue;
        error_set(err, "the store is not available: %.*s", SLICE_ARG(bulk->errors[i].message));
        return STORE_UNAVAILABLE;
    }
    return STORE_OK;
}

enum store_result bulk_run(struct bulk *bulk, struct error *err)
{
    if (bulk->n == 0)
        return STORE_OK;
    if (!client_is_in_time(bulk->client, err))
        return STORE_UNAVAILABLE;
    bson_error_t error = {0};
    bson_destroy(&bulk->reply);
    bool ok = mongoc_bulk_operation_execute(bulk->operation, &bulk->reply, &error) != 0;
    bulk->inserted = get_int(&bulk->reply, "nInserted", 0);
    bulk->matched = get_int(&bulk->reply, "nMatched", 0);
    bulk->upserted = get_int(&bulk->reply, "nUpserted", 0);
    read_errors(bulk);
    if (has_concern_error(bulk)) {
        error_set(err, "the store could not confirm that it is on disk on a majority: %s", error.message);
        return STORE_UNAVAILABLE;
    }
    if (ok)
        return STORE_OK;
    if (bulk->n_errors > 0)
        return judge_errors(bulk, err);
    if (mongoc_error_has_label(&bulk->reply, "RetryableWriteError")) {
        error_set(err, "the store is not available: %s", error.message);
        return STORE_UNAVAILABLE;
    }
    return client_fail(bulk->client, &error, err);
}

enum store_result bulk_first_error(const struct bulk *bulk, int64_t tolerated, struct error *err)
{
    for (size_t i = 0; i < bulk->n_errors; i++) {
        if (bulk->errors[i].code == tolerated)
            continue;
        error_set(err, "the store refuses: %.*s (code %lld)", SLICE_ARG(bulk->errors[i].message),
                  (long long)bulk->errors[i].code);
        return STORE_REFUSED;
    }
    return STORE_OK;
}

enum store_result client_update(struct store_client *client, mongoc_collection_t *collection, const bson_t *filter,
                                const bson_t *update, int64_t *matched, struct error *err)
{
    struct bulk bulk;
    bulk_open(&bulk, client, collection);
    enum store_result result = bulk_update(&bulk, filter, update, false, err) ? STORE_OK : STORE_REFUSED;
    if (result == STORE_OK)
        result = bulk_run(&bulk, err);
    if (result == STORE_OK)
        result = bulk_first_error(&bulk, 0, err);
    *matched = bulk.matched;
    bulk_close(&bulk);
    return result;
}
