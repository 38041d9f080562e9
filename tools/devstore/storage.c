/* The SQLite file: connections, statements, group commit. */
#include "storage.h"

#include "catalog.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum {
    STATEMENT_SLOTS = 1024,
    STATEMENT_PROBES = 8,
    GROUP_LIMIT = 64,           /* commands in one commit */
    CHECKPOINT_PAGES = 32 * 1024 /* of write-ahead log (64 MB), before it is copied into the file */
};

/* c# stands for the table of the collection, x# for that of the index. */
static const char *const statements[SQL_COUNT] = {
    [SQL_BY_ID] = "SELECT r, doc FROM c# WHERE k = ?1",
    [SQL_BY_ROW] = "SELECT r, doc FROM c# WHERE r = ?1",
    [SQL_TABLE] = "SELECT r, doc FROM c# WHERE r > ?1 ORDER BY r",
    [SQL_TABLE_DOWN] = "SELECT r, doc FROM c# WHERE r < ?1 ORDER BY r DESC",
    [SQL_ID_RANGE] = "SELECT r, doc, k FROM c# WHERE k >= ?1 AND k < ?2 ORDER BY k",
    [SQL_ID_RANGE_DOWN] = "SELECT r, doc, k FROM c# WHERE k >= ?1 AND k < ?2 ORDER BY k DESC",
    [SQL_INDEX] = "SELECT r, doc, x.k FROM x# x CROSS JOIN c# USING (r) "
                  "WHERE (x.k, r) > (?1, ?3) AND x.k < ?2 ORDER BY x.k, r",
    [SQL_INDEX_DOWN] = "SELECT r, doc, x.k FROM x# x CROSS JOIN c# USING (r) "
                       "WHERE (x.k, r) < (?2, ?3) AND x.k >= ?1 ORDER BY x.k DESC, r DESC",
    [SQL_INDEX_ROWS] = "SELECT r FROM x# WHERE k >= ?1 AND k < ?2",
    [SQL_INSERT] = "INSERT INTO c# (k, doc) VALUES (?1, ?2)",
    [SQL_UPDATE] = "UPDATE c# SET doc = ?2 WHERE r = ?1",
    [SQL_DELETE] = "DELETE FROM c# WHERE r = ?1",
    [SQL_INDEX_ADD] = "INSERT OR IGNORE INTO x# (k, r) VALUES (?1, ?2)",
    [SQL_INDEX_REMOVE] = "DELETE FROM x# WHERE k = ?1 AND r = ?2",
    [SQL_INDEX_PROBE] = "SELECT 1 FROM x# WHERE k = ?1 AND r <> ?2 LIMIT 1",
};

struct slot {
    int64_t collection, index;
    enum sql sql;
    sqlite3_stmt *statement;
};

struct handle {
    sqlite3 *db;
    struct store *store;
    struct handle *next;
    struct slot slots[STATEMENT_SLOTS];
};

/* One SQLite transaction, and the commands that wait for it to be on disk. */
struct group {
    size_t members;
    bool done, broken;
};

struct store {
    char path[4096];
    bool temporary;
    int lock_fd;
    struct handle *writer, *readers; /* readers: the idle ones */
    struct catalog *catalog;
    pthread_mutex_t write_lock, group_lock, reader_lock;
    pthread_cond_t group_done, checkpoint_due;
    atomic_int queued; /* writers that want write_lock */
    struct group *group;
    atomic_ullong examined;
    int log_pages;
    bool stopping;
    pthread_t checkpointer;
};

int64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool handle_error(struct handle *handle, struct error *error)
{
    if (handle == handle->store->writer && handle->store->group)
        handle->store->group->broken = true; /* SQLite may have rolled back: nobody in the group gets an OK */
    int code = sqlite3_errcode(handle->db) == SQLITE_FULL ? 14031 : 96;
    if (strstr(sqlite3_errmsg(handle->db), "no such table"))
        return error_set(error, 175, "collection or index was dropped while it was read");
    return error_set(error, code, "storage: %s", sqlite3_errmsg(handle->db));
}

/* The texts fit with any two numbers. */
static void statement_text(enum sql sql, int64_t collection, int64_t index, char *out, size_t size)
{
    size_t n = 0;
    for (const char *p = statements[sql]; *p != '\0' && n + 24 < size; p++) {
        if (p[1] == '#') {
            n += (size_t)snprintf(out + n, size - n, "%c%lld", *p, (long long)(*p == 'c' ? collection : index));
            p++;
        } else {
            out[n++] = *p;
        }
    }
    out[n] = '\0';
}

void *statement_get(struct handle *handle, enum sql sql, int64_t collection, int64_t index, struct error *error)
{
    uint64_t hash = ((uint64_t)collection * 31 + (uint64_t)index) * SQL_COUNT + sql;
    struct slot *victim = NULL;
    for (unsigned i = 0; i < STATEMENT_PROBES; i++) {
        struct slot *slot = &handle->slots[(hash + i) % STATEMENT_SLOTS];
        if (slot->statement && slot->sql == sql && slot->collection == collection && slot->index == index &&
            !sqlite3_stmt_busy(slot->statement))
            return slot->statement;
        if (!victim || (victim->statement && (!slot->statement || sqlite3_stmt_busy(victim->statement))))
            victim = slot;
    }
    char text[256];
    statement_text(sql, collection, index, text, sizeof text);
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v3(handle->db, text, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) != SQLITE_OK) {
        handle_error(handle, error);
        return NULL;
    }
    sqlite3_finalize(victim->statement);
    *victim = (struct slot){.collection = collection, .index = index, .sql = sql, .statement = statement};
    return statement;
}

static bool execute(struct handle *handle, const char *text)
{
    return sqlite3_exec(handle->db, text, NULL, NULL, NULL) == SQLITE_OK;
}

static int note_log_size(void *context, sqlite3 *db, const char *name, int pages)
{
    (void)db, (void)name;
    ((struct store *)context)->log_pages = pages;
    return SQLITE_OK;
}

static void handle_close(struct handle *handle)
{
    if (!handle)
        return;
    for (size_t i = 0; i < STATEMENT_SLOTS; i++)
        sqlite3_finalize(handle->slots[i].statement);
    sqlite3_close(handle->db);
    free(handle);
}

static struct handle *handle_open(struct store *store, struct error *error)
{
    struct handle *handle = memset(allocate(sizeof *handle), 0, sizeof *handle);
    handle->store = store;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(store->path, &handle->db, flags, NULL) == SQLITE_OK &&
        sqlite3_busy_timeout(handle->db, 10000) == SQLITE_OK && execute(handle, "PRAGMA page_size = 2048; PRAGMA journal_mode = WAL") &&
        execute(handle, store->temporary ? "PRAGMA synchronous = OFF" : "PRAGMA synchronous = FULL") &&
        execute(handle, "PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -8192; PRAGMA temp_store = MEMORY"))
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
static bool group_leave(struct store *store, struct group *group)
{
    pthread_mutex_lock(&store->group_lock);
    while (!group->done)
        pthread_cond_wait(&store->group_done, &store->group_lock);
    bool ok = !group->broken, last = --group->members == 0;
    pthread_mutex_unlock(&store->group_lock);
    if (last)
        free(group);
    return ok;
}

static void group_begin(struct store *store)
{
    store->group = allocate(sizeof *store->group);
    *store->group = (struct group){.members = 1, .broken = !execute(store->writer, "BEGIN IMMEDIATE")};
}

struct handle *store_write_begin(struct store *store)
{
    atomic_fetch_add(&store->queued, 1);
    pthread_mutex_lock(&store->write_lock);
    atomic_fetch_sub(&store->queued, 1);
    if (store->group)
        store->group->members++;
    else
        group_begin(store);
    return store->writer;
}

/* Whoever finds nobody queued behind it commits for all: the queue itself forms the group. */
bool store_write_end(struct store *store, struct error *error)
{
    struct group *group = store->group;
    if (atomic_load(&store->queued) == 0 || group->members >= GROUP_LIMIT)
        group_finish(store);
    pthread_mutex_unlock(&store->write_lock);
    return group_leave(store, group) || error_set(error, 96, "storage: the write could not be committed");
}

/* Changes of the catalogue are committed before anybody sees them. */
bool store_flush(struct handle *writer, struct error *error)
{
    struct store *store = writer->store;
    struct group *group = store->group;
    group_finish(store);
    bool ok = group_leave(store, group);
    group_begin(store);
    return ok || error_set(error, 96, "storage: %s", sqlite3_errmsg(writer->db));
}

struct handle *store_read_begin(struct store *store, struct error *error)
{
    pthread_mutex_lock(&store->reader_lock);
    struct handle *handle = store->readers;
    if (handle)
        store->readers = handle->next;
    pthread_mutex_unlock(&store->reader_lock);
    return handle ? handle : handle_open(store, error);
}

void store_read_end(struct handle *handle)
{
    struct store *store = handle->store;
    pthread_mutex_lock(&store->reader_lock);
    handle->next = store->readers;
    store->readers = handle;
    pthread_mutex_unlock(&store->reader_lock);
}

/* Copies most of the log while writers go on, then the rest while they wait, so that the log starts over. */
static void *checkpoint_loop(void *context)
{
    struct store *store = context;
    struct error error = {0};
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
    store->lock_fd = -1;
    if (strcmp(path, ":memory:") == 0) {
        const char *folder = getenv("TMPDIR");
        snprintf(store->path, sizeof store->path, "%s/waybill-devstore-XXXXXX", folder && *folder ? folder : "/tmp");
        store->temporary = true;
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
    catalog_free(store->catalog);
    if (store->temporary) {
        char name[sizeof store->path + 8];
        for (size_t i = 0; i < 3; i++) {
            snprintf(name, sizeof name, "%s%s", store->path, i == 0 ? "" : i == 1 ? "-wal" : "-shm");
            unlink(name);
        }
    }
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    free(store);
}

struct store *store_open(const char *path, char message[256])
{
    struct store *store = memset(allocate(sizeof *store), 0, sizeof *store);
    struct error error = {0};
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
        store->catalog = store->writer ? catalog_load(store->writer->db, &error) : NULL;
        if (store->catalog && pthread_create(&store->checkpointer, NULL, checkpoint_loop, store) == 0)
            return store;
        snprintf(message, 256, "cannot use %.120s: %.100s", store->path,
                 error.message[0] ? error.message : "no more threads");
    }
    store->checkpointer = 0;
    store_close(store);
    return NULL;
}

uint64_t store_examined(struct store *store)
{
    return atomic_load(&store->examined);
}

void handle_examined(struct handle *handle)
{
    atomic_fetch_add_explicit(&handle->store->examined, 1, memory_order_relaxed);
}

sqlite3 *handle_db(struct handle *handle)
{
    return handle->db;
}

struct catalog *handle_catalog(struct handle *handle)
{
    return handle->store->catalog;
}

struct catalog *store_catalog(struct store *store)
{
    return store->catalog;
}
