/* Dispatch: from a request to its command, and the form of answers. */
#include "commands.h"

#include <stdio.h>
#include <string.h>

enum { ON_COLLECTION = 1, READS = 2, WRITES = 4 };

#define READ  (ON_COLLECTION | READS)
#define WRITE (ON_COLLECTION | WRITES)
#define FIND_AND_MODIFY                                                                                                \
    "query sort remove update new fields upsert bypassDocumentValidation arrayFilters hint collation let"

static const char generic_fields[] =
    "$db lsid $clusterTime $readPreference readConcern writeConcern maxTimeMS comment apiVersion apiStrict "
    "apiDeprecationErrors $audit $client $configServerState txnNumber startTransaction autocommit";

static const struct command {
    const char *name;
    command_function *run;
    int needs;
    const char *known; /* NULL: any field is taken */
} commands[] = {
    {"insert", command_insert, WRITE, "documents ordered bypassDocumentValidation"},
    {"update", command_update, WRITE, "updates ordered bypassDocumentValidation let"},
    {"delete", command_delete, WRITE, "deletes ordered let"},
    {"findAndModify", command_find_and_modify, WRITE, FIND_AND_MODIFY},
    {"findandmodify", command_find_and_modify, WRITE, FIND_AND_MODIFY},
    {"find", command_find, READ,
     "filter sort projection hint skip limit batchSize singleBatch collation let allowDiskUse noCursorTimeout "
     "allowPartialResults awaitData tailable oplogReplay max min returnKey showRecordId"},
    {"getMore", command_get_more, ON_COLLECTION, "collection batchSize term lastKnownCommittedOpTime"},
    {"killCursors", command_kill_cursors, ON_COLLECTION, "cursors"},
    {"count", command_count, READ, "query limit skip hint collation fields"},
    {"distinct", command_distinct, READ, "key query collation hint"},
    {"aggregate", command_aggregate, READ,
     "pipeline cursor explain allowDiskUse bypassDocumentValidation collation hint let"},
    {"hello", command_hello, 0, NULL},
    {"isMaster", command_hello, 0, NULL},
    {"ismaster", command_hello, 0, NULL},
    {"ping", command_ping, 0, ""},
    {"endSessions", command_ping, 0, ""},
    {"killAllSessions", command_ping, 0, ""},
    {"buildInfo", command_build_info, 0, ""},
    {"buildinfo", command_build_info, 0, ""},
    {"serverStatus", command_server_status, 0, NULL},
    {"getCmdLineOpts", command_line, 0, ""},
    {"getParameter", command_get_parameter, 0, NULL},
    {"create", command_create, WRITE, NULL},
    {"drop", command_drop, WRITE, ""},
    {"dropDatabase", command_drop_database, WRITES, ""},
    {"createIndexes", command_create_indexes, WRITE, "indexes ignoreUnknownIndexOptions commitQuorum"},
    {"listIndexes", command_list_indexes, ON_COLLECTION, "cursor"},
    {"dropIndexes", command_drop_indexes, WRITE, "index"},
    {"listCollections", command_list_collections, 0, "filter cursor nameOnly authorizedCollections"},
    {"listDatabases", command_list_databases, 0, "filter nameOnly authorizedDatabases"},
    {"configureFailPoint", command_configure_failpoint, 0, "mode data"},
};

static const char code_names[] =
    " 2:BadValue 6:HostUnreachable 7:HostNotFound 9:FailedToParse 14:TypeMismatch 15:Overflow "
    "20:IllegalOperation 21:InvalidLength 26:NamespaceNotFound 27:IndexNotFound 28:PathNotViable "
    "40:ConflictingUpdateOperators 43:CursorNotFound 48:NamespaceExists 50:MaxTimeMSExpired "
    "52:DollarPrefixedFieldName 53:InvalidIdField 54:NotSingleValueField 56:EmptyFieldName "
    "59:CommandNotFound 64:WriteConcernFailed 66:ImmutableField 67:CannotCreateIndex 72:InvalidOptions "
    "73:InvalidNamespace 85:IndexOptionsConflict 86:IndexKeySpecsConflict 89:NetworkTimeout "
    "91:ShutdownInProgress 96:OperationFailed 112:WriteConflict 115:CommandNotSupported 123:NotAReplicaSet "
    "168:InvalidPipelineOperator 171:CannotIndexParallelArrays 175:QueryPlanKilled 189:PrimarySteppedDown "
    "191:FailPointSetFailed 262:ExceededTimeLimit 292:QueryExceededMemoryLimitNoDiskUseAllowed "
    "352:UnsupportedOpQueryCommand 9001:SocketException 10107:NotWritablePrimary 10334:BSONObjectTooLarge "
    "11000:DuplicateKey 11600:InterruptedAtShutdown 11602:InterruptedDueToReplStateChange "
    "13435:NotPrimaryNoSecondaryOk 13436:NotPrimaryOrSecondary 14031:OutOfDiskSpace";

static void append_code_name(bson_t *out, int code)
{
    char text[32];
    int length = snprintf(text, sizeof text, " %d:", code);
    const char *found = strstr(code_names, text);
    if (found)
        found += length;
    else
        snprintf(text, sizeof text, "Location%d", code);
    bson_append_utf8(out, "codeName", -1, found ? found : text, found ? (int)strcspn(found, " ") : -1);
}

value argument(const struct request *request, const char *name)
{
    return document_get(request->body, name);
}

bool flag(const struct request *request, const char *name)
{
    return value_truth(argument(request, name));
}

bool check_collation(value options, struct failure *error)
{
    value collation = document_get(options, "collation");
    const char *locale = value_text(document_get(collation, "locale"));
    return document_is_empty(collation) || (locale && strcmp(locale, "simple") == 0) ||
           fail(error, 115, "collation is not supported");
}

bool check_document(value v, const char *field, struct failure *error)
{
    return v.value_type == BSON_TYPE_EOD || v.value_type == BSON_TYPE_DOCUMENT ||
           fail(error, 14, "BSON field '%s' is the wrong type '%s', expected type 'object'", field, value_type_name(v));
}

bool argument_int64(value v, const char *field, int64_t *out, struct failure *error)
{
    if (v.value_type == BSON_TYPE_EOD || v.value_type == BSON_TYPE_NULL)
        return true;
    if (!is_number(v))
        return fail(error, 14,
                    "BSON field '%s' is the wrong type '%s', expected types '[long, int, decimal, "
                    "double]'",
                    field, value_type_name(v));
    return (value_to_integer(v, out) && *out >= 0) || fail(error, 51024, "BSON field '%s' value must be >= 0", field);
}

static bool in_words(const char *words, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = words; length && (at = strstr(at, word)) != NULL; at++)
        if ((at == words || at[-1] == ' ') && (at[length] == ' ' || at[length] == 0))
            return true;
    return false;
}

bool check_refused(value document, const char *words, struct failure *error)
{
    for (struct fields it = fields_of(document); fields_next(&it);)
        if (in_words(words, it.key) && value_truth(it.v))
            return fail(error, 115, "option '%s' is not supported", it.key);
    return true;
}

bool check_known(value document, const char *where, const char *known, struct failure *error)
{
    for (struct fields it = fields_of(document); fields_next(&it);)
        if (!in_words(known, it.key))
            return fail(error, 40415, "BSON field '%s.%s' is an unknown field.", where, it.key);
    return true;
}

void append_error(bson_t *out, const struct failure *error)
{
    BCON_APPEND(out, "code", BCON_INT32(error->code), "errmsg", BCON_UTF8(error->message));
    if (error->details)
        bson_concat(out, error->details);
}

static bool check_concerns(struct request *request, struct failure *error)
{
    value concern = argument(request, "writeConcern"), w = document_get(concern, "w");
    const char *level = value_text(document_get(argument(request, "readConcern"), "level"));
    if (!check_known(concern, "writeConcern", "w j wtimeout fsync provenance", error) ||
        !check_known(argument(request, "readConcern"), "readConcern", "level afterClusterTime provenance", error))
        return false;
    if (value_to_double(w) > 1)
        return fail(error, 2, "cannot use 'w' > 1 when a host is not replicated");
    if (value_text(w) && strcmp(value_text(w), "majority") != 0)
        return fail(error, 2, "cannot use non-majority 'w' mode %s when a host is not a member of a replica set",
                    value_text(w));
    if (level && strcmp(level, "local") && strcmp(level, "available") && strcmp(level, "majority"))
        return fail(error, 123, "node needs to be a replica set member to use read concern %s", level);
    return true;
}

static bool check_request(struct request *request, const struct command *command, struct failure *error)
{
    struct fields it = fields_of(request->body);
    int64_t limit = 0;
    fields_next(&it); /* the command's name */
    while (command->known && fields_next(&it))
        if (!in_words(command->known, it.key) && !in_words(generic_fields, it.key))
            return fail(error, 40415, "BSON field '%s.%s' is an unknown field.", request->name, it.key);
    if (argument(request, "txnNumber").value_type)
        return fail(error, 20, "Transaction numbers are only allowed on a replica set member or mongos");
    if (!value_text(argument(request, "$db")) && !request->legacy)
        return fail(error, 40414, "OP_MSG requests require a $db argument");
    if (!*request->db || strpbrk(request->db, " ./\\\"$"))
        return fail(error, 73, "Invalid database name: '%s'", request->db);
    if (!document_is_empty(argument(request, "let")) || !document_is_empty(argument(request, "arrayFilters")))
        return fail(error, 115, "let and arrayFilters are not supported");
    if (!argument_int64(argument(request, "maxTimeMS"), "maxTimeMS", &limit, error))
        return false;
    request->deadline = limit > 0 ? clock_ms() + limit : 0;
    return check_collation(request->body, error) && check_concerns(request, error);
}

static bool find_collection(struct request *request)
{
    value target = argument(request, strcmp(request->name, "getMore") ? request->name : "collection");
    const char *name = value_text(target);
    if (is_number(target) && strcmp(request->name, "aggregate") == 0)
        return fail(&request->error, 115, "aggregate on a database is not supported");
    if (!name)
        return fail(&request->error, 73, "collection name has invalid type %s", value_type_name(target));
    if (!*name || strlen(name) != target.value.v_utf8.len || strchr(name, '$') || *name == '.')
        return fail(&request->error, 73, "Invalid namespace specified '%s.%s'", request->db, name);
    request->ns = bson_strdup_printf("%s.%s", request->db, name);
    request->collection = collection_find(request->server->store, request->ns);
    return true;
}

/* A writer ends its turn whatever happened, and the first error is the one to tell. */
static bool run_with_handle(struct request *request, const struct command *command)
{
    struct store *store = request->server->store;
    struct failure late = {0};
    if (command->needs & WRITES)
        request->handle = store_write_begin(store);
    else if (command->needs & READS)
        request->handle = store_read_begin(store, &request->error);
    if (command->needs & (READS | WRITES) && !request->handle)
        return false;
    bool ok = (!(command->needs & ON_COLLECTION) || find_collection(request)) && command->run(request);
    if (command->needs & WRITES)
        ok = store_write_end(store, ok ? &request->error : &late) && ok;
    else if (command->needs & READS)
        store_read_end(request->handle);
    return ok;
}

static bool run(struct request *request)
{
    const struct command *command = commands, *end = commands + sizeof commands / sizeof *commands;
    while (command < end && strcmp(command->name, request->name) != 0)
        command++;
    if (command == end)
        return fail(&request->error, 59, "no such command: '%s'", request->name);
    if (request->legacy && command->run != command_hello)
        return fail(&request->error, 352,
                    "Unsupported OP_QUERY command: %s. The client driver may require an "
                    "upgrade.",
                    request->name);
    return check_request(request, command, &request->error) && run_with_handle(request, command);
}

bool command_run(struct request *request, bson_t *reply)
{
    bson_t after = BSON_INITIALIZER;
    struct fields it = fields_of(request->body);
    request->name = fields_next(&it) ? it.key : "";
    request->out = reply;
    if (!request->legacy)
        request->db = value_text(argument(request, "$db")) ? value_text(argument(request, "$db")) : "";
    enum failpoint_action action = failpoint_apply(request, &after);
    bool ok = action == FAILPOINT_NONE && run(request);
    if (!ok) {
        bson_reinit(reply);
        append_error(reply, &request->error);
        append_code_name(reply, request->error.code);
    }
    bson_append_double(reply, "ok", -1, ok);
    bson_concat(reply, &after);
    bson_destroy(&after);
    failure_clear(&request->error);
    bson_free(request->ns);
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
    failpoint_close(server->failpoint);
    store_close(server->store);
}
