/* Handshake, diagnostics, and everything about collections and indexes. */
#include "commands.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool command_hello(struct request *request, struct buffer *out, struct error *error)
{
    const char *name = value_text(document_get(document_get(argument(request, "client"), "application"), "name"));
    (void)error;
    if (name && !request->client->application[0])
        snprintf(request->client->application, sizeof request->client->application, "%s", name);
    put_bool(out, strcmp(request->name, "hello") == 0 ? "isWritablePrimary" : "ismaster", true);
    if (value_truth(argument(request, "helloOk")))
        put_bool(out, "helloOk", true);
    put_int32(out, "maxBsonObjectSize", MAX_DOCUMENT_BYTES);
    put_int32(out, "maxMessageSizeBytes", MAX_MESSAGE_BYTES);
    put_int32(out, "maxWriteBatchSize", MAX_WRITE_BATCH);
    put_date(out, "localTime", wall_ms());
    put_int32(out, "logicalSessionTimeoutMinutes", 30);
    put_number(out, "connectionId", request->client->id);
    put_int32(out, "minWireVersion", 0);
    put_int32(out, "maxWireVersion", 17);
    put_bool(out, "readOnly", false);
    return true;
}

/* Sessions carry no state without transactions: ending them is as harmless as a ping. */
bool command_ping(struct request *request, struct buffer *out, struct error *error)
{
    (void)request, (void)out, (void)error;
    return true;
}

bool command_build_info(struct request *request, struct buffer *out, struct error *error)
{
    (void)request, (void)error;
    put_string(out, "version", "6.0.0");
    put_string(out, "gitVersion", "waybill-devstore");
    size_t mark = put_open(out, "versionArray", BSON_TYPE_ARRAY);
    put_int32(out, "0", 6);
    put_int32(out, "1", 0);
    put_int32(out, "2", 0);
    put_int32(out, "3", 0);
    document_close(out, mark);
    mark = put_open(out, "modules", BSON_TYPE_ARRAY);
    document_close(out, mark);
    put_bool(out, "debug", false);
    put_int32(out, "maxBsonObjectSize", MAX_DOCUMENT_BYTES);
    return true;
}

bool command_server_status(struct request *request, struct buffer *out, struct error *error)
{
    (void)error;
    struct server *server = request->server;
    int64_t uptime = clock_ms() - server->started_ms;
    put_string(out, "host", "localhost");
    put_string(out, "version", "6.0.0");
    put_string(out, "process", "waybill-devstore");
    put_int64(out, "pid", getpid());
    put_double(out, "uptime", (double)(uptime / 1000));
    put_int64(out, "uptimeMillis", uptime);
    put_date(out, "localTime", wall_ms());
    size_t mark = put_open(out, "connections", BSON_TYPE_DOCUMENT);
    put_int32(out, "current", atomic_load(&server->connections));
    document_close(out, mark);
    mark = put_open(out, "storageEngine", BSON_TYPE_DOCUMENT);
    put_string(out, "name", "devstore");
    document_close(out, mark);
    mark = put_open(out, "devstore", BSON_TYPE_DOCUMENT);
    put_int64(out, "docsExamined", (int64_t)store_examined(server->store));
    document_close(out, mark);
    return true;
}

bool command_get_parameter(struct request *request, struct buffer *out, struct error *error)
{
    const char *all = value_text(argument(request, "getParameter"));
    bool everything = (all && strcmp(all, "*") == 0) || value_truth(argument(request, "allParameters")), any = everything;
    if (everything || argument(request, "featureCompatibilityVersion").type) {
        size_t mark = put_open(out, "featureCompatibilityVersion", BSON_TYPE_DOCUMENT);
        put_string(out, "version", "6.0");
        document_close(out, mark);
        any = true;
    }
    if (everything || argument(request, "enableTestCommands").type) {
        put_bool(out, "enableTestCommands", true); /* configureFailPoint is there */
        any = true;
    }
    return any || error_set(error, 72, "no option found to get");
}

bool command_connection_status(struct request *request, struct buffer *out, struct error *error)
{
    (void)request, (void)error;
    size_t mark = put_open(out, "authInfo", BSON_TYPE_DOCUMENT);
    document_close(out, put_open(out, "authenticatedUsers", BSON_TYPE_ARRAY));
    document_close(out, put_open(out, "authenticatedUserRoles", BSON_TYPE_ARRAY));
    document_close(out, mark);
    return true;
}

bool command_command_line(struct request *request, struct buffer *out, struct error *error)
{
    (void)request, (void)error;
    size_t mark = put_open(out, "argv", BSON_TYPE_ARRAY);
    put_string(out, "0", "waybill-devstore");
    document_close(out, mark);
    document_close(out, put_open(out, "parsed", BSON_TYPE_DOCUMENT));
    return true;
}

bool command_whats_my_uri(struct request *request, struct buffer *out, struct error *error)
{
    char text[40];
    (void)error;
    snprintf(text, sizeof text, "127.0.0.1:%lld", (long long)request->client->id);
    put_string(out, "you", text);
    return true;
}

/* Runs a change of the catalogue as the only writer. */
typedef bool change(struct request *request, struct handle *writer, const char *ns, struct buffer *out,
                    struct error *error);

static bool as_writer(struct request *request, const char *ns, change *run, struct buffer *out, struct error *error)
{
    if (!ns)
        return false;
    struct handle *writer = store_write_begin(request->server->store);
    bool ok = run(request, writer, ns, out, error);
    struct error late = {0};
    return store_write_end(request->server->store, ok ? error : &late) && ok;
}

static bool do_create(struct request *request, struct handle *writer, const char *ns, struct buffer *out,
                      struct error *error)
{
    (void)out;
    if (collection_find(request->server->store, ns))
        return error_set(error, 48, "Collection %s already exists.", ns);
    return collection_create(writer, ns, error) != NULL;
}

bool command_create(struct request *request, struct buffer *out, struct error *error)
{
    static const char *const refused[] = {"capped", "timeseries", "viewOn", "pipeline", "validator", "clusteredIndex",
                                          "expireAfterSeconds", "changeStreamPreAndPostImages", "encryptedFields"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (value_truth(argument(request, refused[i])))
            return error_set(error, 115, "create option '%s' is not supported", refused[i]);
    return check_collation(request->body, error) &&
           as_writer(request, request_namespace(request, error), do_create, out, error);
}

static int32_t index_count(const struct collection *c)
{
    int32_t count = 0;
    for (const struct index *index = c ? c->indexes : NULL; index; index = index->next)
        count++;
    return count;
}

static bool do_drop(struct request *request, struct handle *writer, const char *ns, struct buffer *out,
                    struct error *error)
{
    struct collection *c = collection_find(request->server->store, ns);
    if (!c)
        return error_set(error, 26, "ns not found");
    put_int32(out, "nIndexesWas", index_count(c));
    put_string(out, "ns", ns);
    return collection_drop(writer, c, error);
}

bool command_drop(struct request *request, struct buffer *out, struct error *error)
{
    return as_writer(request, request_namespace(request, error), do_drop, out, error);
}

static void take_first(struct collection *c, void *context)
{
    *(struct collection **)context = c;
}

static const char *database_prefix(struct request *request)
{
    size_t size = strlen(request->db) + 2;
    char *prefix = arena_get(&request->arena, size);
    snprintf(prefix, size, "%s.", request->db);
    return prefix;
}

static bool do_drop_database(struct request *request, struct handle *writer, const char *prefix, struct buffer *out,
                             struct error *error)
{
    bool ok = true, any = false;
    for (struct collection *c = NULL; ok; any = true) {
        c = NULL;
        collection_each(request->server->store, prefix, take_first, &c);
        if (!c)
            break;
        ok = collection_drop(writer, c, error);
    }
    if (any)
        put_string(out, "dropped", request->db);
    return ok;
}

bool command_drop_database(struct request *request, struct buffer *out, struct error *error)
{
    return as_writer(request, database_prefix(request), do_drop_database, out, error);
}

static bool check_index_key(struct value key, struct error *error)
{
    struct field f;
    size_t count = 0;
    for (struct fields it = fields_of(key); fields_next(&it, &f); count++) {
        if (!*f.key || f.key[0] == '$' || strstr(f.key, ".$"))
            return error_set(error, 67, "Index key contains an illegal field name: '%s'", f.key);
        if (!value_is_number(f.value) || value_to_double(f.value) == 0)
            return error_set(error, 67, "Values in v:2 index key pattern must be numbers other than 0; special index "
                                        "types are not supported");
    }
    if (count == 0 || count > MAX_INDEX_FIELDS)
        return error_set(error, 67, "Index keys must have between 1 and %d fields", MAX_INDEX_FIELDS);
    return true;
}

/* Whether the specification can be built; same: it is there already. */
static bool check_index(struct request *request, struct collection *c, struct value spec, bool *same,
                        struct error *error)
{
    static const char *const refused[] = {"sparse", "partialFilterExpression", "expireAfterSeconds", "hidden",
                                          "storageEngine", "weights", "wildcardProjection"};
    struct value key = document_get(spec, "key"), name = document_get(spec, "name");
    if (key.type != BSON_TYPE_DOCUMENT || !value_text(name) || !*value_text(name))
        return error_set(error, 9, "The '%s' field is a required property of an index specification",
                         key.type != BSON_TYPE_DOCUMENT ? "key" : "name");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (value_truth(document_get(spec, refused[i])))
            return error_set(error, 115, "index option '%s' is not supported", refused[i]);
    if (!check_known(spec, "createIndexes.indexes", "key name unique background v sparse ns collation", error) ||
        !check_collation(spec, error) || !check_index_key(key, error))
        return false;
    struct index *named = c ? index_find(request->server->store, c, name) : NULL;
    struct index *keyed = c ? index_find(request->server->store, c, key) : NULL;
    *same = (keyed && !keyed->id) /* on _id */ ||
            (named && named == keyed && named->unique == value_truth(document_get(spec, "unique")));
    if (*same || (!named && !keyed))
        return true;
    return keyed && keyed != named ? error_set(error, 85, "Index already exists with a different name: %s", keyed->name)
                                   : error_set(error, 86, "An existing index has the same name as the requested index. "
                                               "Requested index: %s", value_text(name));
}

static void index_spec(struct value given, struct buffer *spec)
{
    size_t mark = document_open(spec);
    put_int32(spec, "v", 2);
    put_value(spec, "key", document_get(given, "key"));
    put_value(spec, "name", document_get(given, "name"));
    if (value_truth(document_get(given, "unique")))
        put_bool(spec, "unique", true);
    document_close(spec, mark);
}

static bool do_create_indexes(struct request *request, struct handle *writer, const char *ns, struct buffer *out,
                              struct error *error)
{
    struct collection *c = collection_find(request->server->store, ns);
    struct field f;
    bool ok = true, created = !c;
    int32_t before = c ? index_count(c) : 1;
    for (struct fields it = fields_of(argument(request, "indexes")); ok && fields_next(&it, &f);) {
        struct buffer spec = {0};
        bool same = false;
        ok = check_index(request, c, f.value, &same, error) && (c || (c = collection_create(writer, ns, error)) != NULL);
        if (ok && !same) {
            index_spec(f.value, &spec);
            ok = index_create(writer, c, buffer_document(&spec), error);
        }
        buffer_free(&spec);
    }
    int32_t after = index_count(c);
    put_int32(out, "numIndexesBefore", before);
    put_int32(out, "numIndexesAfter", after);
    put_bool(out, "createdCollectionAutomatically", created);
    if (before == after)
        put_string(out, "note", "all indexes already exist");
    return ok;
}

bool command_create_indexes(struct request *request, struct buffer *out, struct error *error)
{
    struct value list = argument(request, "indexes");
    if (list.type != BSON_TYPE_ARRAY || document_is_empty(list))
        return error_set(error, 2, "Must specify at least one index to create");
    return as_writer(request, request_namespace(request, error), do_create_indexes, out, error);
}

static void put_cursor(struct buffer *out, const char *ns, const struct buffer *elements)
{
    size_t mark = put_open(out, "cursor", BSON_TYPE_DOCUMENT);
    put_int64(out, "id", 0);
    put_string(out, "ns", ns);
    size_t list = put_open(out, "firstBatch", BSON_TYPE_ARRAY);
    buffer_append(out, elements->data, elements->size);
    document_close(out, list);
    document_close(out, mark);
}

/* As the writer, because a drop may not change the list meanwhile. */
static bool do_list_indexes(struct request *request, struct handle *writer, const char *ns, struct buffer *out,
                            struct error *error)
{
    struct collection *c = collection_find(request->server->store, ns);
    struct buffer elements = {0};
    size_t count = 0;
    (void)writer;
    if (!c)
        return error_set(error, 26, "ns does not exist: %s", ns);
    for (struct index *index = c->indexes; index; index = index->next)
        put_item(&elements, count++, index->spec);
    put_cursor(out, ns, &elements);
    buffer_free(&elements);
    return true;
}

bool command_list_indexes(struct request *request, struct buffer *out, struct error *error)
{
    return as_writer(request, request_namespace(request, error), do_list_indexes, out, error);
}

static bool drop_named(struct request *request, struct handle *writer, struct collection *c, struct value which,
                       struct error *error)
{
    struct index *index = index_find(request->server->store, c, which);
    if (!index)
        return value_text(which) ? error_set(error, 27, "index not found with name [%s]", value_text(which))
                                 : error_set(error, 27, "can't find index with key");
    if (!index->id)
        return error_set(error, 72, "cannot drop _id index");
    return index_drop(writer, c, index, error);
}

static bool do_drop_indexes(struct request *request, struct handle *writer, const char *ns, struct buffer *out,
                            struct error *error)
{
    struct collection *c = collection_find(request->server->store, ns);
    struct value which = argument(request, "index");
    struct field f;
    bool ok = true;
    if (!c)
        return error_set(error, 26, "ns not found %s", ns);
    put_int32(out, "nIndexesWas", index_count(c));
    if (value_text(which) && strcmp(value_text(which), "*") == 0) {
        while (ok && c->indexes->next)
            ok = index_drop(writer, c, c->indexes->next, error);
        return ok;
    }
    if (which.type != BSON_TYPE_ARRAY)
        return drop_named(request, writer, c, which, error);
    for (struct fields it = fields_of(which); ok && fields_next(&it, &f);)
        ok = drop_named(request, writer, c, f.value, error);
    return ok;
}

bool command_drop_indexes(struct request *request, struct buffer *out, struct error *error)
{
    return as_writer(request, request_namespace(request, error), do_drop_indexes, out, error);
}

struct listing {
    struct request *request;
    struct query query;
    struct buffer elements, names;
    size_t count;
    bool name_only;
};

static void add_listed(struct listing *l, const struct buffer *entry)
{
    if (query_matches(&l->query, buffer_document(entry), NULL))
        put_item(&l->elements, l->count++, buffer_document(entry));
}

static void list_collection(struct collection *c, void *context)
{
    struct listing *l = context;
    struct buffer entry = {0};
    size_t mark = document_open(&entry);
    put_string(&entry, "name", c->ns + strlen(l->request->db) + 1);
    put_string(&entry, "type", "collection");
    if (!l->name_only) {
        document_close(&entry, put_open(&entry, "options", BSON_TYPE_DOCUMENT));
        size_t info = put_open(&entry, "info", BSON_TYPE_DOCUMENT);
        put_bool(&entry, "readOnly", false);
        document_close(&entry, info);
        put_value(&entry, "idIndex", c->indexes->spec);
    }
    document_close(&entry, mark);
    add_listed(l, &entry);
    buffer_free(&entry);
}

bool command_list_collections(struct request *request, struct buffer *out, struct error *error)
{
    struct listing l = {.request = request, .name_only = value_truth(argument(request, "nameOnly"))};
    bool ok = query_compile(&l.query, &request->arena, argument(request, "filter"), (struct value){0}, error);
    if (ok) {
        char ns[200];
        snprintf(ns, sizeof ns, "%.150s.$cmd.listCollections", request->db);
        collection_each(request->server->store, database_prefix(request), list_collection, &l);
        put_cursor(out, ns, &l.elements);
    }
    query_free(&l.query);
    buffer_free(&l.elements);
    return ok;
}

static void list_database(struct collection *c, void *context)
{
    struct listing *l = context;
    size_t length = strcspn(c->ns, ".");
    const char *name = arena_string(&l->request->arena, c->ns, length);
    for (size_t at = 0; at < l->names.size; at += strlen((char *)l->names.data + at) + 1)
        if (strcmp((char *)l->names.data + at, name) == 0)
            return;
    buffer_append(&l->names, name, length + 1);
    struct buffer entry = {0};
    size_t mark = document_open(&entry);
    put_string(&entry, "name", name);
    if (!l->name_only) {
        put_int64(&entry, "sizeOnDisk", 4096);
        put_bool(&entry, "empty", false);
    }
    document_close(&entry, mark);
    add_listed(l, &entry);
    buffer_free(&entry);
}

bool command_list_databases(struct request *request, struct buffer *out, struct error *error)
{
    struct listing l = {.request = request, .name_only = value_truth(argument(request, "nameOnly"))};
    bool ok = query_compile(&l.query, &request->arena, argument(request, "filter"), (struct value){0}, error);
    if (ok) {
        collection_each(request->server->store, "", list_database, &l);
        size_t mark = put_open(out, "databases", BSON_TYPE_ARRAY);
        buffer_append(out, l.elements.data, l.elements.size);
        document_close(out, mark);
        if (!l.name_only)
            put_int64(out, "totalSize", (int64_t)l.count * 4096);
    }
    query_free(&l.query);
    buffer_free(&l.elements);
    buffer_free(&l.names);
    return ok;
}
