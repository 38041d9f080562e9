/* The SQLite file: connections, statements, group commit. */
#include "storage_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum {
    GROUP_LIMIT = 64,            /* commands in one commit */
    CHECKPOINT_PAGES = 32 * 1024 /* of write-ahead log (64 MB), before it is copied into the file */
};

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS documents (r INTEGER PRIMARY KEY, doc BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS entries (k BLOB, r INTEGER, PRIMARY KEY (k, r)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS catalog (id INTEGER PRIMARY KEY AUTOINCREMENT, ns BLOB, spec BLOB, multikey INTEGER)";

int64_t clock_ms(void)
{
    return bson_get_monotonic_time() / 1000;
}

bool handle_error(struct handle *handle, struct failure *error)
{
    if (handle == handle->store->writer && handle->store->group)
        handle->store->group->broken = true; /* SQLite may have rolled back: nobody in the group gets an OK */
    int code = sqlite3_errcode(handle->db) == SQLITE_FULL ? 14031 : 96;
    return fail(error, code, "storage: %s", sqlite3_errmsg(handle->db));
}

sqlite3_stmt *handle_bind(struct handle *handle, const char *sql, struct parameters p)
{
    size_t i = 0;
    while (i < MAX_STATEMENTS - 1 && handle->statements[i].sql && handle->statements[i].sql != sql)
        i++;
    sqlite3_stmt **statement = &handle->statements[i].statement;
    if (handle->statements[i].sql != sql) {
        sqlite3_finalize(*statement);
        bool ok = sqlite3_prepare_v3(handle->db, sql, -1, SQLITE_PREPARE_PERSISTENT, statement, NULL) == SQLITE_OK;
        handle->statements[i].sql = ok ? sql : NULL;
    }
    sqlite3_bind_int64(*statement, 1, p.number);
    sqlite3_bind_int64(*statement, 2, p.limit);
    sqlite3_bind_blob64(*statement, 3, p.low.data, p.low.size, SQLITE_STATIC);
    sqlite3_bind_blob64(*statement, 4, p.high.data, p.high.size, SQLITE_STATIC);
    return *statement;
}

bool handle_run(struct handle *handle, const char *sql, struct parameters parameters, bool *found,
                struct failure *error)
{
    sqlite3_stmt *statement = handle_bind(handle, sql, parameters);
    int result = sqlite3_step(statement);
    sqlite3_reset(statement);
    if (found)
        *found = result == SQLITE_ROW;
    return result == SQLITE_DONE || result == SQLITE_ROW || handle_error(handle, error);
}

static bool execute(struct handle *handle, const char *text)
{
    return sqlite3_exec(handle->db, text, NULL, NULL, NULL) == SQLITE_OK;
}

static void handle_close(struct handle *handle)
{
    if (!handle)
        return;
    for (size_t i = 0; i < MAX_STATEMENTS; i++)
        sqlite3_finalize(handle->statements[i].statement);
    sqlite3_close(handle->db);
    bson_free(handle);
}

static struct handle *handle_open(struct store *store, struct failure *error)
{
    struct handle *handle = bson_malloc0(sizeof *handle);
    handle->store = store;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    bool ok = sqlite3_open_v2(store->path, &handle->db, flags, NULL) == SQLITE_OK &&
              sqlite3_busy_timeout(handle->db, 10000) == SQLITE_OK &&
              execute(handle, "PRAGMA page_size = 2048; PRAGMA journal_mode = WAL; PRAGMA temp_store = MEMORY;"
                              "PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -8192") &&
              execute(handle, store->temporary ? "PRAGMA synchronous = OFF" : "PRAGMA synchronous = FULL") &&
              execute(handle, schema);
    if (ok)
        return handle;
    handle_error(handle, error);
    handle_close(handle);
    return NULL;
}

/* Ends the transaction and wakes who waits for it. Called with write_lock held. */
static void group_finish(struct store *store)
{
    struct group *group = store->group;
    bool ok = !group->broken && execute(store->writer, "COMMIT");
    if (!ok)
        execute(store->writer, "ROLLBACK");
    store->group = NULL;
    pthread_mutex_lock(&store->group_lock);
    group->broken = !ok;
    group->done = true;
    pthread_cond_broadcast(&store->group_done);
    if (store->log_pages > CHECKPOINT_PAGES)
        pthread_cond_signal(&store->checkpoint_due);
    pthread_mutex_unlock(&store->group_lock);
}

/* A group is freed by its last member. */
static bool group_leave(struct store *store, struct group *group, struct failure *error)
{
    pthread_mutex_lock(&store->group_lock);
    while (!group->done)
        pthread_cond_wait(&store->group_done, &store->group_lock);
    bool ok = !group->broken, last = --group->members == 0;
    pthread_mutex_unlock(&store->group_lock);
    if (last)
        bson_free(group);
    return ok || fail(error, 96, "storage: the write could not be committed");
}

static void group_join(struct store *store)
{
    if (!store->group) {
        store->group = bson_malloc0(sizeof *store->group);
        store->group->broken = !execute(store->writer, "BEGIN IMMEDIATE");
    }
    store->group->members++;
}

struct handle *store_write_begin(struct store *store)
{
    atomic_fetch_add(&store->queued, 1);
    pthread_mutex_lock(&store->write_lock);
    atomic_fetch_sub(&store->queued, 1);
    group_join(store);
    return store->writer;
}

/* Whoever finds nobody queued behind it commits for all: the queue itself forms the group. */
bool store_write_end(struct store *store, struct failure *error)
{
    struct group *group = store->group;
    if (atomic_load(&store->queued) == 0 || group->members >= GROUP_LIMIT)
        group_finish(store);
    pthread_mutex_unlock(&store->write_lock);
    return group_leave(store, group, error);
}

bool store_flush(struct handle *writer, struct failure *error)
{
    struct store *store = writer->store;
    struct group *group = store->group;
    group_finish(store);
    group_join(store);
    return group_leave(store, group, error);
}

struct handle *store_read_begin(struct store *store, struct failure *error)
{
    pthread_mutex_lock(&store->reader_lock);
    struct handle *handle = store->readers;
    if (handle)
        store->readers = handle->next;
    pthread_mutex_unlock(&store->reader_lock);
    if (!handle && !(handle = handle_open(store, error)))
        return NULL;
    if (execute(handle, "BEGIN"))
        return handle;
    handle_error(handle, error);
    handle_close(handle);
    return NULL;
}

void store_read_end(struct handle *handle)
{
    struct store *store = handle->store;
    execute(handle, "COMMIT");
    pthread_mutex_lock(&store->reader_lock);
    handle->next = store->readers;
    store->readers = handle;
    pthread_mutex_unlock(&store->reader_lock);
}

static int note_log_size(void *context, sqlite3 *db, const char *name, int pages)
{
    (void)db, (void)name;
    ((struct store *)context)->log_pages = pages;
    return SQLITE_OK;
}

/* Copies most of the log while writers go on, then the rest while they wait, so that the log starts over. */
static void *checkpoint_loop(void *context)
{
    struct store *store = context;
    struct failure error = {0};
    struct handle *handle = handle_open(store, &error);
    pthread_mutex_lock(&store->group_lock);
    while (handle && !store->stopping) {
        pthread_cond_wait(&store->checkpoint_due, &store->group_lock);
        pthread_mutex_unlock(&store->group_lock);
        sqlite3_wal_checkpoint_v2(handle->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        pthread_mutex_lock(&store->write_lock);
        if (store->group)
            group_finish(store);
        sqlite3_wal_checkpoint_v2(handle->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        pthread_mutex_unlock(&store->write_lock);
        pthread_mutex_lock(&store->group_lock);
    }
    pthread_mutex_unlock(&store->group_lock);
    handle_close(handle);
    return NULL;
}

/* SQLite's own locks would let two servers share a file; their catalogues would then differ. */
static bool claim_file(struct store *store, const char *path, char message[256])
{
    store->temporary = strcmp(path, ":memory:") == 0;
    if (store->temporary) {
        const char *folder = getenv("TMPDIR");
        snprintf(store->path, sizeof store->path, "%s/waybill-devstore-XXXXXX", folder && *folder ? folder : "/tmp");
        store->lock_fd = mkstemp(store->path);
    } else {
        snprintf(store->path, sizeof store->path, "%s", path);
        store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    }
    if (store->lock_fd < 0)
        snprintf(message, 256, "cannot write %.150s: %s", store->path, strerror(errno));
    else if (flock(store->lock_fd, LOCK_EX | LOCK_NB) != 0)
        snprintf(message, 256, "%.150s is in use by another process", store->path);
    else
        return true;
    return false;
}

void store_close(struct store *store)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    if (store->checkpointer) {
        pthread_mutex_lock(&store->group_lock);
        store->stopping = true;
        pthread_cond_signal(&store->checkpoint_due);
        pthread_mutex_unlock(&store->group_lock);
        pthread_join(store->checkpointer, NULL);
    }
    while (store->readers) {
        struct handle *next = store->readers->next;
        handle_close(store->readers);
        store->readers = next;
    }
    handle_close(store->writer);
    void **owned = (void *)store->owned.data;
    for (size_t i = 0; i < store->owned.size / sizeof *owned; i++)
        bson_free(owned[i]);
    buffer_free(&store->owned);
    for (size_t i = 0; store->temporary && i < sizeof suffixes / sizeof *suffixes; i++) {
        char name[sizeof store->path + 8];
        snprintf(name, sizeof name, "%s%s", store->path, suffixes[i]);
        unlink(name);
    }
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    bson_free(store);
}

struct store *store_open(const char *path, char message[256])
{
    struct store *store = bson_malloc0(sizeof *store);
    struct failure error = {0};
    pthread_mutex_init(&store->write_lock, NULL);
    pthread_mutex_init(&store->group_lock, NULL);
    pthread_mutex_init(&store->reader_lock, NULL);
    pthread_cond_init(&store->group_done, NULL);
    pthread_cond_init(&store->checkpoint_due, NULL);
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    if (claim_file(store, path, message)) {
        store->writer = handle_open(store, &error);
        if (store->writer && execute(store->writer, "PRAGMA cache_size = -131072"))
            sqlite3_wal_hook(store->writer->db, note_log_size, store);
        if (store->writer && (catalog_load(store) || handle_error(store->writer, &error)) &&
            pthread_create(&store->checkpointer, NULL, checkpoint_loop, store) == 0)
            return store;
        snprintf(message, 256, "cannot use %.120s: %.100s", store->path, error.message);
    }
    store->checkpointer = 0;
    store_close(store);
    return NULL;
}

int64_t store_examined(struct store *store)
{
    return atomic_load(&store->examined);
}
