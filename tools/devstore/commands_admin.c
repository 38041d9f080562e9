/* Handshake, diagnostics, and everything about collections and indexes. */
#include "commands.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int64_t wall_ms(void)
{
    struct timeval now;
    bson_gettimeofday(&now);
    return (int64_t)now.tv_sec * 1000 + now.tv_usec / 1000;
}

bool command_hello(struct request *request)
{
    struct client *client = request->client;
    const char *name = value_text(document_path(request->body, "client.application.name"));
    if (name && !client->application[0])
        snprintf(client->application, sizeof client->application, "%s", name);
    if (flag(request, "helloOk"))
        bson_append_bool(request->out, "helloOk", -1, true);
    BCON_APPEND(request->out, strcmp(request->name, "hello") == 0 ? "isWritablePrimary" : "ismaster", BCON_BOOL(true),
                "maxBsonObjectSize", BCON_INT32(MAX_DOCUMENT_BYTES), "maxMessageSizeBytes",
                BCON_INT32(MAX_MESSAGE_BYTES), "maxWriteBatchSize", BCON_INT32(MAX_WRITE_BATCH), "localTime",
                BCON_DATE_TIME(wall_ms()), "logicalSessionTimeoutMinutes", BCON_INT32(30), "connectionId",
                BCON_INT32((int32_t)client->id), "minWireVersion", BCON_INT32(0), "maxWireVersion", BCON_INT32(17),
                "readOnly", BCON_BOOL(false));
    return true;
}

/* Sessions carry no state without transactions: ending them is as harmless as a ping. */
bool command_ping(struct request *request)
{
    (void)request;
    return true;
}

bool command_build_info(struct request *request)
{
    BCON_APPEND(request->out, "version", BCON_UTF8("6.0.0"), "gitVersion", BCON_UTF8("waybill-devstore"),
                "versionArray", "[", BCON_INT32(6), BCON_INT32(0), BCON_INT32(0), BCON_INT32(0), "]", "modules", "[",
                "]", "debug", BCON_BOOL(false), "maxBsonObjectSize", BCON_INT32(MAX_DOCUMENT_BYTES));
    return true;
}

bool command_server_status(struct request *request)
{
    struct server *server = request->server;
    int64_t uptime = clock_ms() - server->started_ms;
    pthread_mutex_lock(&server->lock);
    int connections = server->connections;
    pthread_mutex_unlock(&server->lock);
    BCON_APPEND(request->out, "host", BCON_UTF8("localhost"), "version", BCON_UTF8("6.0.0"), "process",
                BCON_UTF8("waybill-devstore"), "pid", BCON_INT64(getpid()), "uptime",
                BCON_DOUBLE((double)(uptime / 1000)), "uptimeMillis", BCON_INT64(uptime), "localTime",
                BCON_DATE_TIME(wall_ms()), "connections", "{", "current", BCON_INT32(connections), "}", "storageEngine",
                "{", "name", BCON_UTF8("devstore"), "}", "devstore", "{", "docsExamined",
                BCON_INT64(store_examined(server->store)), "}");
    return true;
}

/* pymongo's tests ask for it. */
bool command_line(struct request *request)
{
    BCON_APPEND(request->out, "argv", "[", BCON_UTF8("waybill-devstore"), "]", "parsed", "{", "}");
    return true;
}

/* The two that MongoDB's driver tests ask for. */
bool command_get_parameter(struct request *request)
{
    const char *all = value_text(argument(request, "getParameter"));
    bool everything = (all && strcmp(all, "*") == 0) || flag(request, "allParameters");
    bool version = everything || argument(request, "featureCompatibilityVersion").value_type;
    bool commands = everything || argument(request, "enableTestCommands").value_type;
    if (version)
        BCON_APPEND(request->out, "featureCompatibilityVersion", "{", "version", BCON_UTF8("6.0"), "}");
    if (commands)
        BCON_APPEND(request->out, "enableTestCommands", BCON_BOOL(true)); /* configureFailPoint is there */
    return version || commands || fail(&request->error, 72, "no option found to get");
}

bool command_create(struct request *request)
{
    if (!check_refused(request->body,
                       "capped timeseries viewOn pipeline validator clusteredIndex expireAfterSeconds "
                       "changeStreamPreAndPostImages encryptedFields",
                       &request->error))
        return false;
    if (request->collection)
        return fail(&request->error, 48, "Collection %s already exists.", request->ns);
    return collection_create(request->handle, request->ns, &request->error) != NULL;
}

static int32_t index_count(const struct collection *c)
{
    int32_t count = 0;
    for (const struct index *index = c->indexes; index; index = index->next)
        count++;
    return count;
}

bool command_drop(struct request *request)
{
    if (!request->collection)
        return fail(&request->error, 26, "ns not found");
    BCON_APPEND(request->out, "nIndexesWas", BCON_INT32(index_count(request->collection)), "ns",
                BCON_UTF8(request->ns));
    return collection_drop(request->handle, request->collection, &request->error);
}

static bool in_database(const struct collection *c, const char *db)
{
    size_t length = strlen(db);
    return strncmp(c->ns, db, length) == 0 && c->ns[length] == '.';
}

bool command_drop_database(struct request *request)
{
    bool any = false;
    for (struct collection *c = store_collections(request->server->store); c; c = c->next) {
        if (!in_database(c, request->db))
            continue;
        if (!collection_drop(request->handle, c, &request->error))
            return false;
        any = true;
    }
    if (any)
        bson_append_utf8(request->out, "dropped", -1, request->db, -1);
    return true;
}

static bool check_index_key(value key, struct failure *error)
{
    size_t count = 0;
    for (struct fields it = fields_of(key); fields_next(&it); count++) {
        if (!*it.key || *it.key == '$' || strstr(it.key, ".$"))
            return fail(error, 67, "Index key contains an illegal field name: '%s'", it.key);
        if (value_to_double(it.v) == 0)
            return fail(error, 67,
                        "Values in v:2 index key pattern must be numbers other than 0; special index "
                        "types are not supported");
    }
    if (count == 0 || count > MAX_INDEX_FIELDS)
        return fail(error, 67, "Index keys must have between 1 and %d fields", MAX_INDEX_FIELDS);
    return true;
}

/* Whether the specification can be built; same: it is there already. */
static bool check_index(struct collection *c, value spec, bool *same, struct failure *error)
{
    value key = document_get(spec, "key"), name = document_get(spec, "name");
    if (key.value_type != BSON_TYPE_DOCUMENT || !value_text(name) || !*value_text(name))
        return fail(error, 9, "The '%s' field is a required property of an index specification",
                    key.value_type != BSON_TYPE_DOCUMENT ? "key" : "name");
    if (!check_refused(spec,
                       "sparse partialFilterExpression expireAfterSeconds hidden storageEngine weights "
                       "wildcardProjection",
                       error) ||
        !check_known(spec, "createIndexes.indexes", "key name unique background v sparse ns collation", error) ||
        !check_collation(spec, error) || !check_index_key(key, error))
        return false;
    struct index *named = c ? index_find(c, name) : NULL, *keyed = c ? index_find(c, key) : NULL;
    *same = keyed && (keyed == c->indexes /* on _id */ ||
                      (named == keyed && named->unique == value_truth(document_get(spec, "unique"))));
    if (*same || (!named && !keyed))
        return true;
    if (keyed && keyed != named)
        return fail(error, 85, "Index already exists with a different name: %s", keyed->name);
    return fail(error, 86, "An existing index has the same name as the requested index. Requested index: %s",
                value_text(name));
}

static bool add_index(struct request *request, value given)
{
    bool same = false;
    if (!check_index(request->collection, given, &same, &request->error))
        return false;
    if (!request->collection &&
        !(request->collection = collection_create(request->handle, request->ns, &request->error)))
        return false;
    if (same)
        return true;
    bson_t *spec = BCON_NEW("v", BCON_INT32(2));
    append_value(spec, "key", document_get(given, "key"));
    append_value(spec, "name", document_get(given, "name"));
    if (value_truth(document_get(given, "unique")))
        bson_append_bool(spec, "unique", -1, true);
    bool ok = index_create(request->handle, request->collection, document_of(spec), &request->error);
    bson_destroy(spec);
    return ok;
}

bool command_create_indexes(struct request *request)
{
    value list = argument(request, "indexes");
    bool created = !request->collection;
    int32_t before = created ? 1 : index_count(request->collection);
    if (list.value_type != BSON_TYPE_ARRAY || document_is_empty(list))
        return fail(&request->error, 2, "Must specify at least one index to create");
    for (struct fields it = fields_of(list); fields_next(&it);)
        if (!add_index(request, it.v))
            return false;
    int32_t after = index_count(request->collection);
    BCON_APPEND(request->out, "numIndexesBefore", BCON_INT32(before), "numIndexesAfter", BCON_INT32(after),
                "createdCollectionAutomatically", BCON_BOOL(created));
    if (before == after)
        bson_append_utf8(request->out, "note", -1, "all indexes already exist", -1);
    return true;
}

static void append_cursor(bson_t *out, const char *ns, const bson_t *batch)
{
    BCON_APPEND(out, "cursor", "{", "id", BCON_INT64(0), "ns", BCON_UTF8(ns), "firstBatch", BCON_ARRAY(batch), "}");
}

bool command_list_indexes(struct request *request)
{
    bson_t batch = BSON_INITIALIZER;
    size_t count = 0;
    if (!request->collection)
        return fail(&request->error, 26, "ns does not exist: %s", request->ns);
    for (const struct index *index = request->collection->indexes; index; index = index->next)
        append_item(&batch, count++, index->spec);
    append_cursor(request->out, request->ns, &batch);
    bson_destroy(&batch);
    return true;
}

static bool drop_index(struct request *request, value which)
{
    struct collection *c = request->collection;
    struct index *index = index_find(c, which);
    if (!index)
        return value_text(which) ? fail(&request->error, 27, "index not found with name [%s]", value_text(which))
                                 : fail(&request->error, 27, "can't find index with key");
    if (index == c->indexes)
        return fail(&request->error, 72, "cannot drop _id index");
    return index_drop(request->handle, c, index, &request->error);
}

bool command_drop_indexes(struct request *request)
{
    struct collection *c = request->collection;
    value which = argument(request, "index");
    bool all = value_text(which) && strcmp(value_text(which), "*") == 0;
    if (!c)
        return fail(&request->error, 26, "ns not found %s", request->ns);
    bson_append_int32(request->out, "nIndexesWas", -1, index_count(c));
    for (struct index *index = c->indexes->next; all && index; index = index->next)
        if (!index_drop(request->handle, c, index, &request->error))
            return false;
    if (all || which.value_type != BSON_TYPE_ARRAY)
        return all || drop_index(request, which);
    for (struct fields it = fields_of(which); fields_next(&it);)
        if (!drop_index(request, it.v))
            return false;
    return true;
}

/* Adds an entry to a list of collections or databases if the filter wants it. */
static void list_entry(bson_t *list, size_t *count, const struct match *filter, bson_t *entry)
{
    if (query_matches(filter, document_of(entry)))
        append_item(list, (*count)++, document_of(entry));
    bson_destroy(entry);
}

bool command_list_collections(struct request *request)
{
    struct match *filter = query_compile(argument(request, "filter"), &request->error);
    bson_t list = BSON_INITIALIZER;
    size_t count = 0;
    for (struct collection *c = store_collections(request->server->store); filter && c; c = c->next) {
        if (!in_database(c, request->db))
            continue;
        bson_t *entry = BCON_NEW("name", BCON_UTF8(c->ns + strlen(request->db) + 1), "type", BCON_UTF8("collection"));
        if (!flag(request, "nameOnly")) {
            BCON_APPEND(entry, "options", "{", "}", "info", "{", "readOnly", BCON_BOOL(false), "}");
            append_value(entry, "idIndex", c->indexes->spec);
        }
        list_entry(&list, &count, filter, entry);
    }
    char *ns = bson_strdup_printf("%s.$cmd.listCollections", request->db);
    append_cursor(request->out, ns, &list);
    bson_free(ns);
    bson_destroy(&list);
    query_free(filter);
    return filter != NULL;
}

bool command_list_databases(struct request *request)
{
    struct match *filter = query_compile(argument(request, "filter"), &request->error);
    struct collection *first = store_collections(request->server->store);
    bson_t list = BSON_INITIALIZER;
    size_t count = 0;
    for (struct collection *c = first; filter && c; c = c->next) {
        char *name = bson_strndup(c->ns, strcspn(c->ns, "."));
        const struct collection *other = first;
        while (other != c && !in_database(other, name))
            other = other->next;
        bson_t *entry = BCON_NEW("name", BCON_UTF8(name));
        if (!flag(request, "nameOnly"))
            BCON_APPEND(entry, "sizeOnDisk", BCON_INT64(4096), "empty", BCON_BOOL(false));
        if (other == c) /* the database's first */
            list_entry(&list, &count, filter, entry);
        else
            bson_destroy(entry);
        bson_free(name);
    }
    bson_append_array(request->out, "databases", -1, &list);
    if (!flag(request, "nameOnly"))
        bson_append_int64(request->out, "totalSize", -1, (int64_t)count * 4096);
    bson_destroy(&list);
    query_free(filter);
    return filter != NULL;
}
