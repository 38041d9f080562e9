/* Reads. */
#include "client.h"

#include <stdio.h>

#include "bson.h"

enum store_result client_find(struct store_client *client, mongoc_collection_t *collection, const bson_t *filter,
                              const bson_t *opts, find_row *row, void *arg, struct error *err)
{
    if (!client_is_in_time(client, err))
        return STORE_UNAVAILABLE;
    mongoc_cursor_t *cursor = mongoc_collection_find_with_opts(collection, filter, opts, NULL);
    const bson_t *doc = NULL;
    bson_error_t error = {0};
    while (mongoc_cursor_next(cursor, &doc))
        row(arg, doc);
    enum store_result result = mongoc_cursor_error(cursor, &error) ? client_fail(client, &error, err) : STORE_OK;
    mongoc_cursor_destroy(cursor);
    return result;
}

enum store_result client_find_ids(struct store_client *client, mongoc_collection_t *collection, const struct slice *ids,
                                  size_t n, const char *const *fields, find_row *row, void *arg, struct error *err)
{
    bson_t filter = BSON_INITIALIZER, opts = BSON_INITIALIZER, projection;
    put_operator_list(&filter, "_id", "$in", ids, n);
    put_int(&opts, "batchSize", (int64_t)n + 1); /* all in the first answer */
    if (fields != NULL) {
        put_open(&opts, "projection", &projection);
        for (; *fields != NULL; fields++)
            put_int(&projection, *fields, 1);
        put_close(&opts, &projection);
    }
    enum store_result result = client_find(client, collection, &filter, &opts, row, arg, err);
    bson_destroy(&filter);
    bson_destroy(&opts);
    return result;
}

static void keep_copy(void *arg, const bson_t *doc)
{
    bson_t **copy = arg;
    if (*copy == NULL)
        *copy = bson_copy(doc);
}

enum store_result client_get(struct store_client *client, mongoc_collection_t *collection, struct slice id,
                             bson_t **doc, struct error *err)
{
    *doc = NULL;
    enum store_result result = client_find_ids(client, collection, &id, 1, NULL, keep_copy, doc, err);
    if (result == STORE_OK && *doc != NULL)
        return STORE_OK;
    if (*doc != NULL) { /* found, and then the cursor failed */
        bson_destroy(*doc);
        *doc = NULL;
    }
    if (result != STORE_OK)
        return result;
    error_set(err, "there is no %.*s in %s", SLICE_ARG(id), mongoc_collection_get_name(collection));
    return STORE_NOT_FOUND;
}

mongoc_collection_t *client_collection(struct store_client *client, struct slice name, struct error *err)
{
    char text[121];
    bool odd = name.len == 0 || name.len >= sizeof(text);
    for (size_t i = 0; i < name.len && !odd; i++)
        odd = name.base[i] == '\0' || name.base[i] == '$' || (unsigned char)name.base[i] < 0x20;
    if (odd || name.base[0] == '.' || name.base[name.len - 1] == '.' ||
        (name.len >= 7 && memcmp(name.base, "system.", 7) == 0)) {
        error_set(err, "'%.*s' is not a name for a collection (1 to 120 bytes, no '$', not 'system.…')",
                  (int)(name.len > 120 ? 120 : name.len), name.base);
        return NULL;
    }
    snprintf(text, sizeof(text), "%.*s", SLICE_ARG(name));
    return mongoc_client_get_collection(client->client, client->store->database, text);
}
