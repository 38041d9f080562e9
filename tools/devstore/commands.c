/* Dispatch: from a request to its command, and the form of answers. */
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char generic_fields[] = "$db lsid $clusterTime $readPreference readConcern writeConcern maxTimeMS comment "
                                     "apiVersion apiStrict apiDeprecationErrors $audit $client $configServerState";

#define FIND_AND_MODIFY_FIELDS \
    "query sort remove update new fields upsert bypassDocumentValidation arrayFilters hint collation let"

static const struct command {
    const char *name;
    command_function *run;
    const char *known; /* NULL: any field is taken */
} commands[] = {
    {"insert", command_insert, "documents ordered bypassDocumentValidation"},
    {"update", command_update, "updates ordered bypassDocumentValidation let"},
    {"delete", command_delete, "deletes ordered let"},
    {"findAndModify", command_find_and_modify, FIND_AND_MODIFY_FIELDS},
    {"findandmodify", command_find_and_modify, FIND_AND_MODIFY_FIELDS},
    {"find", command_find, "filter sort projection hint skip limit batchSize singleBatch collation let allowDiskUse "
                           "noCursorTimeout allowPartialResults awaitData tailable oplogReplay max min returnKey "
                           "showRecordId"},
    {"getMore", command_get_more, "collection batchSize term lastKnownCommittedOpTime"},
    {"killCursors", command_kill_cursors, "cursors"},
    {"count", command_count, "query limit skip hint collation fields"},
    {"distinct", command_distinct, "key query collation hint"},
    {"aggregate", command_aggregate, "pipeline cursor explain allowDiskUse bypassDocumentValidation collation hint let"},
    {"hello", command_hello, NULL}, {"isMaster", command_hello, NULL}, {"ismaster", command_hello, NULL},
    {"ping", command_ping, ""}, {"endSessions", command_ping, ""}, {"killAllSessions", command_ping, ""},
    {"killSessions", command_ping, ""}, {"refreshSessions", command_ping, ""},
    {"buildInfo", command_build_info, ""}, {"buildinfo", command_build_info, ""},
    {"serverStatus", command_server_status, NULL}, {"getParameter", command_get_parameter, NULL},
    {"connectionStatus", command_connection_status, "showPrivileges"}, {"whatsmyuri", command_whats_my_uri, ""},
    {"getCmdLineOpts", command_command_line, ""},
    {"create", command_create, NULL}, {"drop", command_drop, ""}, {"dropDatabase", command_drop_database, ""},
    {"createIndexes", command_create_indexes, "indexes ignoreUnknownIndexOptions commitQuorum"},
    {"listIndexes", command_list_indexes, "cursor"}, {"dropIndexes", command_drop_indexes, "index"},
    {"deleteIndexes", command_drop_indexes, "index"},
    {"listCollections", command_list_collections, "filter cursor nameOnly authorizedCollections"},
    {"listDatabases", command_list_databases, "filter nameOnly authorizedDatabases"},
    {"configureFailPoint", failpoint_configure, "mode data"},
};

static const char *code_name(int code)
{
    static const struct {
        int code;
        const char *name;
    } names[] = {
        {2, "BadValue"}, {6, "HostUnreachable"}, {7, "HostNotFound"}, {8, "UnknownError"}, {9, "FailedToParse"},
        {11, "UserNotFound"}, {13, "Unauthorized"}, {14, "TypeMismatch"}, {15, "Overflow"}, {17, "ProtocolError"},
        {18, "AuthenticationFailed"}, {20, "IllegalOperation"}, {21, "InvalidLength"}, {22, "InvalidBSON"},
        {26, "NamespaceNotFound"}, {27, "IndexNotFound"}, {28, "PathNotViable"}, {40, "ConflictingUpdateOperators"},
        {43, "CursorNotFound"}, {48, "NamespaceExists"}, {50, "MaxTimeMSExpired"}, {52, "DollarPrefixedFieldName"},
        {53, "InvalidIdField"}, {54, "NotSingleValueField"}, {56, "EmptyFieldName"}, {59, "CommandNotFound"},
        {64, "WriteConcernFailed"}, {66, "ImmutableField"}, {67, "CannotCreateIndex"}, {68, "IndexAlreadyExists"},
        {72, "InvalidOptions"}, {73, "InvalidNamespace"}, {79, "UnknownReplWriteConcern"}, {85, "IndexOptionsConflict"},
        {86, "IndexKeySpecsConflict"}, {89, "NetworkTimeout"}, {91, "ShutdownInProgress"}, {96, "OperationFailed"},
        {100, "UnsatisfiableWriteConcern"}, {112, "WriteConflict"}, {115, "CommandNotSupported"},
        {121, "DocumentValidationFailure"}, {123, "NotAReplicaSet"}, {134, "ReadConcernMajorityNotAvailableYet"},
        {168, "InvalidPipelineOperator"}, {171, "CannotIndexParallelArrays"}, {175, "QueryPlanKilled"},
        {189, "PrimarySteppedDown"}, {191, "FailPointSetFailed"}, {197, "InvalidIndexSpecificationOption"},
        {262, "ExceededTimeLimit"}, {292, "QueryExceededMemoryLimitNoDiskUseAllowed"}, {352, "UnsupportedOpQueryCommand"},
        {9001, "SocketException"}, {10107, "NotWritablePrimary"}, {10334, "BSONObjectTooLarge"},
        {11000, "DuplicateKey"}, {11600, "InterruptedAtShutdown"}, {11602, "InterruptedDueToReplStateChange"},
        {13388, "StaleConfig"}, {13435, "NotPrimaryNoSecondaryOk"}, {13436, "NotPrimaryOrSecondary"},
        {14031, "OutOfDiskSpace"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].code == code)
            return names[i].name;
    return NULL;
}

struct value argument(const struct request *request, const char *name)
{
    return document_get(request->body, name);
}

const char *request_namespace(struct request *request, struct error *error)
{
    struct value target = document_get(request->body, strcmp(request->name, "getMore") ? request->name : "collection");
    const char *collection = value_text(target);
    if (!collection) {
        error_set(error, 73, "collection name has invalid type %s", value_type_name(target));
        return NULL;
    }
    if (!*collection || strlen(collection) != target.size - 5 || strchr(collection, '$') || collection[0] == '.') {
        error_set(error, 73, "Invalid namespace specified '%s.%s'", request->db, collection);
        return NULL;
    }
    size_t size = strlen(request->db) + strlen(collection) + 2;
    char *ns = arena_get(&request->arena, size);
    snprintf(ns, size, "%s.%s", request->db, collection);
    return ns;
}

bool check_collation(struct value options, struct error *error)
{
    struct value collation = document_get(options, "collation");
    const char *locale = value_text(document_get(collation, "locale"));
    return document_is_empty(collation) || (locale && strcmp(locale, "simple") == 0) ||
           error_set(error, 115, "collation is not supported");
}

bool check_document(struct value value, const char *field, struct error *error)
{
    return value.type == BSON_TYPE_EOD || value.type == BSON_TYPE_DOCUMENT ||
           error_set(error, 14, "BSON field '%s' is the wrong type '%s', expected type 'object'", field,
                     value_type_name(value));
}

bool argument_int64(struct value value, const char *field, int64_t *out, struct error *error)
{
    if (value.type == BSON_TYPE_EOD || value.type == BSON_TYPE_NULL)
        return true;
    if (!value_is_number(value))
        return error_set(error, 14, "BSON field '%s' is the wrong type '%s', expected types '[long, int, decimal, "
                                    "double]'", field, value_type_name(value));
    if (!value_to_integer(value, out) || *out < 0)
        return error_set(error, 51024, "BSON field '%s' value must be >= 0", field);
    return true;
}

static bool in_words(const char *words, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = words; length && (at = strstr(at, word)) != NULL; at++)
        if ((at == words || at[-1] == ' ') && (at[length] == ' ' || at[length] == 0))
            return true;
    return false;
}

bool check_known(struct value document, const char *where, const char *known, struct error *error)
{
    struct field f;
    for (struct fields it = fields_of(document); fields_next(&it, &f);)
        if (!in_words(known, f.key))
            return error_set(error, 40415, "BSON field '%s.%s' is an unknown field.", where, f.key);
    return true;
}

bool argument_list(struct request *request, const char *name, struct value **list, size_t *count, struct error *error)
{
    struct buffer found = {0};
    struct field f;
    struct value array = argument(request, name);
    for (size_t i = 0; i < request->sequence_count; i++)
        if (strcmp(request->sequences[i].name, name) == 0)
            for (const uint8_t *at = request->sequences[i].at; at < request->sequences[i].end;) {
                struct value document = document_view(at);
                buffer_append(&found, &document, sizeof document);
                at += document.size;
            }
    bool ok = true;
    for (struct fields it = fields_of(array); ok && fields_next(&it, &f); buffer_append(&found, &f.value, sizeof f.value))
        ok = f.value.type == BSON_TYPE_DOCUMENT ||
             error_set(error, 14, "BSON field '%s.%s.%s' is the wrong type '%s', expected type 'object'", request->name,
                       name, f.key, value_type_name(f.value));
    *count = found.size / sizeof **list;
    if (ok && (*count < 1 || *count > MAX_WRITE_BATCH))
        ok = error_set(error, 21, "Write batch sizes must be between 1 and %d. Got %zu operations.", MAX_WRITE_BATCH,
                       *count);
    *list = arena_get(&request->arena, found.size + 1);
    if (found.size)
        memcpy(*list, found.data, found.size);
    buffer_free(&found);
    return ok;
}

void put_error(struct buffer *out, const struct error *error)
{
    put_int32(out, "code", error->code);
    put_string(out, "errmsg", error->message);
    buffer_append(out, error->details.data, error->details.size);
}

static const struct command *command_named(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static bool check_concerns(struct request *request, struct error *error)
{
    struct value concern = argument(request, "writeConcern"), w = document_get(concern, "w");
    const char *level = value_text(document_get(argument(request, "readConcern"), "level"));
    if (!check_known(concern, "writeConcern", "w j wtimeout fsync provenance", error) ||
        !check_known(argument(request, "readConcern"), "readConcern", "level afterClusterTime provenance", error))
        return false;
    if (value_is_number(w) && value_to_double(w) > 1)
        return error_set(error, 2, "cannot use 'w' > 1 when a host is not replicated");
    if (value_text(w) && strcmp(value_text(w), "majority") != 0)
        return error_set(error, 2, "cannot use non-majority 'w' mode %s when a host is not a member of a replica set",
                         value_text(w));
    if (level && strcmp(level, "local") && strcmp(level, "available") && strcmp(level, "majority"))
        return error_set(error, 123, "node needs to be a replica set member to use read concern %s", level);
    return true;
}

static bool check_request(struct request *request, const struct command *command, struct error *error)
{
    struct field f;
    struct fields it = fields_of(request->body);
    int64_t limit = 0;
    fields_next(&it, &f);
    while (command->known && fields_next(&it, &f))
        if (!in_words(command->known, f.key) && !in_words(generic_fields, f.key) &&
            strcmp(f.key, "txnNumber") && strcmp(f.key, "startTransaction") && strcmp(f.key, "autocommit"))
            return error_set(error, 40415, "BSON field '%s.%s' is an unknown field.", request->name, f.key);
    if (argument(request, "txnNumber").type)
        return error_set(error, 20, "Transaction numbers are only allowed on a replica set member or mongos");
    if (!value_text(argument(request, "$db")) && !request->legacy)
        return error_set(error, 40414, "OP_MSG requests require a $db argument");
    if (!*request->db || strpbrk(request->db, " ./\\\"$"))
        return error_set(error, 73, "Invalid database name: '%s'", request->db);
    if (!argument_int64(argument(request, "maxTimeMS"), "maxTimeMS", &limit, error))
        return false;
    request->deadline = limit > 0 ? clock_ms() + limit : 0;
    return check_concerns(request, error);
}

static bool run(struct request *request, struct buffer *out, struct error *error)
{
    const struct command *command = command_named(request->name);
    if (!command)
        return error_set(error, 59, "no such command: '%s'", request->name);
    if (request->legacy && command->run != command_hello)
        return error_set(error, 352, "Unsupported OP_QUERY command: %s. The client driver may require an upgrade.",
                         request->name);
    return check_request(request, command, error) && command->run(request, out, error);
}

bool command_run(struct request *request, struct buffer *reply)
{
    struct error error = {0};
    struct buffer after = {0};
    struct field first = {.key = ""};
    struct fields it = fields_of(request->body);
    size_t mark = document_open(reply);
    fields_next(&it, &first);
    request->name = first.key;
    if (!request->legacy)
        request->db = value_text(argument(request, "$db")) ? value_text(argument(request, "$db")) : "";
    enum failpoint_action action = failpoint_apply(request, &after, &error);
    bool ok = action == FAILPOINT_NONE && run(request, reply, &error);
    if (!ok) {
        reply->size = mark + 4;
        put_double(reply, "ok", 0);
        put_string(reply, "errmsg", error.message);
        put_int32(reply, "code", error.code);
        const char *name = code_name(error.code);
        char location[32];
        snprintf(location, sizeof location, "Location%d", error.code);
        put_string(reply, "codeName", name ? name : location);
        buffer_append(reply, error.details.data, error.details.size);
    } else {
        put_double(reply, "ok", 1);
    }
    buffer_append(reply, after.data, after.size);
    document_close(reply, mark);
    buffer_free(&after);
    error_clear(&error);
    arena_free(&request->arena);
    return action != FAILPOINT_CLOSE;
}

bool server_open(struct server *server, const char *file, char message[256])
{
    server->store = store_open(file, message);
    if (!server->store)
        return false;
    server->failpoint = failpoint_open();
    server->cursors = cursors_open();
    server->started_ms = clock_ms();
    return true;
}

void server_close(struct server *server)
{
    cursors_close(server->cursors);
    failpoint_free(server->failpoint);
    store_close(server->store);
}
