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

enum { GROUP_LIMIT = 64 /* commands in one commit */ };

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS documents (r INTEGER PRIMARY KEY, doc BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS entries (k BLOB, r INTEGER, PRIMARY KEY (k, r)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS catalog (id INTEGER PRIMARY KEY AUTOINCREMENT, ns BLOB, spec BLOB, multikey INTEGER)";

static const char *const statements[SQL_STATEMENTS] = {
    [SQL_DOCUMENT] = "SELECT doc FROM documents WHERE r = ?1",
    [SQL_ROWS] = "SELECT r FROM documents WHERE r > ?1 AND r < ?2 ORDER BY r LIMIT 256",
    [SQL_ROWS_DOWN] = "SELECT r FROM documents WHERE r > ?1 AND r < ?2 ORDER BY r DESC LIMIT 256",
    [SQL_ENTRIES] = "SELECT r, k FROM entries WHERE (k, r) > (?3, ?1) AND k < ?4 ORDER BY k, r LIMIT ?2",
    [SQL_ENTRIES_DOWN] =
        "SELECT r, k FROM entries WHERE k >= ?3 AND (k, r) < (?4, ?1) ORDER BY k DESC, r DESC LIMIT ?2",
    [SQL_COUNT] = "SELECT count(*) FROM documents WHERE r > ?1 AND r < ?2",
    [SQL_INSERT] = "INSERT INTO documents (r, doc) VALUES (?1, ?3)",
    [SQL_UPDATE] = "UPDATE documents SET doc = ?3 WHERE r = ?1",
    [SQL_DELETE] = "DELETE FROM documents WHERE r = ?1",
    [SQL_CLEAR] = "DELETE FROM documents WHERE r > ?1 AND r < ?2",
    [SQL_ENTRY_ADD] = "INSERT INTO entries (k, r) VALUES (?3, ?1)",
    [SQL_ENTRY_REMOVE] = "DELETE FROM entries WHERE k = ?3 AND r = ?1",
    [SQL_ENTRY_PROBE] = "SELECT 1 FROM entries WHERE k = ?3 AND r <> ?1",
    [SQL_ENTRY_CLEAR] = "DELETE FROM entries WHERE k >= ?3 AND k < ?4",
    [SQL_CATALOG_ADD] = "INSERT INTO catalog (ns, spec, multikey) VALUES (?3, ?4, 0)",
    [SQL_CATALOG_REMOVE] = "DELETE FROM catalog WHERE id = ?1",
    [SQL_CATALOG_MULTIKEY] = "UPDATE catalog SET multikey = 1 WHERE id = ?1",
    [SQL_BEGIN] = "BEGIN",
    [SQL_BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
};

int64_t clock_ms(void)
{
    return bson_get_monotonic_time() / 1000;
}

bool handle_error(struct handle *handle, struct error *error)
{
    if (handle == handle->store->writer && handle->store->group)
        handle->store->group->broken = true; /* SQLite may have rolled back: nobody in the group gets an OK */
    int code = sqlite3_errcode(handle->db) == SQLITE_FULL ? 14031 : 96;
    return error_set(error, code, "storage: %s", sqlite3_errmsg(handle->db));
}

sqlite3_stmt *handle_bind(struct handle *handle, enum sql sql, struct parameters p)
{
    sqlite3_stmt *statement = handle->statements[sql];
    sqlite3_bind_int64(statement, 1, p.number);
    sqlite3_bind_int64(statement, 2, p.limit);
    sqlite3_bind_blob64(statement, 3, p.low.data, p.low.size, SQLITE_STATIC);
    sqlite3_bind_blob64(statement, 4, p.high.data, p.high.size, SQLITE_STATIC);
    return statement;
}

bool handle_run(struct handle *handle, enum sql sql, struct parameters parameters, bool *found, struct error *error)
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
    for (size_t i = 0; i < SQL_STATEMENTS; i++)
        sqlite3_finalize(handle->statements[i]);
    sqlite3_close(handle->db);
    bson_free(handle);
}

static struct handle *handle_open(struct store *store, struct error *error)
{
    struct handle *handle = bson_malloc0(sizeof *handle);
    handle->store = store;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    bool ok = sqlite3_open_v2(store->path, &handle->db, flags, NULL) == SQLITE_OK &&
              sqlite3_busy_timeout(handle->db, 10000) == SQLITE_OK &&
              execute(handle, "PRAGMA page_size = 2048; PRAGMA journal_mode = WAL; PRAGMA temp_store = MEMORY;"
                              "PRAGMA wal_autocheckpoint = 32768; PRAGMA cache_size = -8192") &&
              execute(handle, store->temporary ? "PRAGMA synchronous = OFF" : "PRAGMA synchronous = FULL") &&
              execute(handle, schema);
    for (size_t i = 0; ok && i < SQL_STATEMENTS; i++)
        ok = sqlite3_prepare_v3(handle->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT, &handle->statements[i],
                                NULL) == SQLITE_OK;
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
    struct error ignored;
    bool ok = !group->broken && handle_run(store->writer, SQL_COMMIT, (struct parameters){0}, NULL, &ignored);
    if (!ok)
        handle_run(store->writer, SQL_ROLLBACK, (struct parameters){0}, NULL, &ignored);
    store->group = NULL;
    pthread_mutex_lock(&store->group_lock);
    group->broken = !ok;
    group->done = true;
    pthread_cond_broadcast(&store->group_done);
    pthread_mutex_unlock(&store->group_lock);
}

/* A group is freed by its last member. */
static bool group_leave(struct store *store, struct group *group, struct error *error)
{
    pthread_mutex_lock(&store->group_lock);
    while (!group->done)
        pthread_cond_wait(&store->group_done, &store->group_lock);
    bool ok = !group->broken, last = --group->members == 0;
    pthread_mutex_unlock(&store->group_lock);
    if (last)
        bson_free(group);
    return ok || error_set(error, 96, "storage: the write could not be committed");
}

static void group_join(struct store *store)
{
    struct error ignored;
    if (!store->group) {
        store->group = bson_malloc0(sizeof *store->group);
        handle_run(store->writer, SQL_BEGIN_WRITE, (struct parameters){0}, NULL, &ignored); /* breaks it, or not */
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
bool store_write_end(struct store *store, struct error *error)
{
    struct group *group = store->group;
    if (atomic_load(&store->queued) == 0 || group->members >= GROUP_LIMIT)
        group_finish(store);
    pthread_mutex_unlock(&store->write_lock);
    return group_leave(store, group, error);
}

bool store_flush(struct handle *writer, struct error *error)
{
    struct store *store = writer->store;
    struct group *group = store->group;
    group_finish(store);
    group_join(store);
    return group_leave(store, group, error);
}

struct handle *store_read_begin(struct store *store, struct error *error)
{
    pthread_mutex_lock(&store->reader_lock);
    struct handle *handle = store->readers;
    if (handle)
        store->readers = handle->next;
    pthread_mutex_unlock(&store->reader_lock);
    if (!handle && !(handle = handle_open(store, error)))
        return NULL;
    if (handle_run(handle, SQL_BEGIN, (struct parameters){0}, NULL, error))
        return handle;
    handle_close(handle);
    return NULL;
}

void store_read_end(struct handle *handle)
{
    struct store *store = handle->store;
    struct error ignored;
    handle_run(handle, SQL_COMMIT, (struct parameters){0}, NULL, &ignored);
    pthread_mutex_lock(&store->reader_lock);
    handle->next = store->readers;
    store->readers = handle;
    pthread_mutex_unlock(&store->reader_lock);
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
    struct error error = {0};
    pthread_mutex_init(&store->write_lock, NULL);
    pthread_mutex_init(&store->group_lock, NULL);
    pthread_mutex_init(&store->reader_lock, NULL);
    pthread_cond_init(&store->group_done, NULL);
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    if (claim_file(store, path, message)) {
        store->writer = handle_open(store, &error);
        if (store->writer && execute(store->writer, "PRAGMA cache_size = -131072") &&
            (catalog_load(store) || handle_error(store->writer, &error)))
            return store;
        snprintf(message, 256, "cannot use %.120s: %.100s", store->path, error.message);
    }
    store_close(store);
    return NULL;
}

int64_t store_examined(struct store *store)
{
    return atomic_load(&store->examined);
}
