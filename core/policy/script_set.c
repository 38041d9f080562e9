#include "policy/script_set.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/crypto.h"
#include "base/memory.h"

#define MAX_SCRIPT_BYTES (1024 * 1024)
#define MAX_SCRIPTS      1000
#define MAX_DEPTH        8 /* of folders; also ends a loop of symbolic links */
#define HASH_TEXT_BYTES  13

struct script_set {
    atomic_int owners;
    uint32_t generation;
    char hash[HASH_TEXT_BYTES];
    struct script *scripts;
    size_t n, size;
};

static bool read_folder(struct script_set *set, const char *folder, const char *prefix, int depth, struct error *err);

static bool has_lua_ending(const char *name)
{
    size_t len = strlen(name);
    return len > 4 && strcmp(name + len - 4, ".lua") == 0;
}

static bool read_all(int fd, struct buf *text, const char *path, struct error *err)
{
    char chunk[16384];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n == 0)
            return true;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            error_set(err, "%s: %s", path, strerror(errno));
            return false;
        }
        buf_add(text, chunk, (size_t)n);
        if (text->len > MAX_SCRIPT_BYTES) {
            error_set(err, "%s: larger than %d bytes", path, MAX_SCRIPT_BYTES);
            return false;
        }
    }
}

static void add_script(struct script_set *set, const char *name, struct buf *text)
{
    if (set->n == set->size) {
        set->size = set->size == 0 ? 16 : set->size * 2;
        set->scripts = memory_resize(set->scripts, set->size * sizeof *set->scripts);
    }
    buf_reserve(text, 1); /* so that an empty file has bytes to point at */
    set->scripts[set->n++] = (struct script){memory_strdup(name), {text->data, text->len}};
    *text = (struct buf){0}; /* the set owns the bytes now */
}

static bool read_script(struct script_set *set, const char *path, const char *name, struct error *err)
{
    if (set->n == MAX_SCRIPTS) {
        error_set(err, "%s: more than %d scripts", path, MAX_SCRIPTS);
        return false;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        error_set(err, "%s: %s", path, strerror(errno));
        return false;
    }
    struct buf text = {0};
    bool good = read_all(fd, &text, path, err);
    close(fd);
    if (good)
        add_script(set, name, &text);
    buf_free(&text);
    return good;
}

static bool read_entry(struct script_set *set, const char *folder, const char *prefix, const char *entry, int depth,
                       struct error *err)
{
    char path[PATH_MAX], name[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", folder, entry) >= (int)sizeof path ||
        snprintf(name, sizeof name, "%s%s", prefix, entry) >= (int)sizeof name) {
        error_set(err, "%s: path too long", folder);
        return false;
    }
    struct stat info;
    if (stat(path, &info) != 0) {
        error_set(err, "%s: %s", path, strerror(errno));
        return false;
    }
    if (S_ISDIR(info.st_mode)) {
        if (snprintf(name, sizeof name, "%s%s/", prefix, entry) >= (int)sizeof name) {
            error_set(err, "%s: path too long", folder);
            return false;
        }
        return read_folder(set, path, name, depth + 1, err);
    }
    return !S_ISREG(info.st_mode) || !has_lua_ending(entry) || read_script(set, path, name, err);
}

static bool read_folder(struct script_set *set, const char *folder, const char *prefix, int depth, struct error *err)
{
    if (depth > MAX_DEPTH) {
        error_set(err, "%s: folders nested deeper than %d", folder, MAX_DEPTH);
        return false;
    }
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        error_set(err, "scripts folder %s: %s", folder, strerror(errno));
        return false;
    }
    bool good = true;
    for (struct dirent *entry; good && (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] != '.') /* editors' and mounts' own files, too */
            good = read_entry(set, folder, prefix, entry->d_name, depth, err);
    }
    closedir(dir);
    return good;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct script *)a)->name, ((const struct script *)b)->name);
}

/* Names and lengths go in as well, so that moving a line from one file to another changes the hash. */
static void compute_hash(struct script_set *set)
{
    struct buf all = {0};
    for (size_t i = 0; i < set->n; i++) {
        buf_printf(&all, "%s %zu\n", set->scripts[i].name, set->scripts[i].text.len);
        buf_add_slice(&all, set->scripts[i].text);
    }
    unsigned char digest[CRYPTO_SHA256_BYTES];
    crypto_sha256(buf_slice(&all), digest);
    crypto_hex(digest, (HASH_TEXT_BYTES - 1) / 2, set->hash);
    buf_free(&all);
}

struct script_set *script_set_read(const char *dir, uint32_t generation, struct error *err)
{
    struct script_set *set = memory_alloc(sizeof *set);
    atomic_init(&set->owners, 1);
    set->generation = generation;
    if (!read_folder(set, dir, "", 1, err)) {
        script_set_release(set);
        return NULL;
    }
    if (set->n == 0) {
        error_set(err, "scripts folder %s: no .lua file in it", dir);
        script_set_release(set);
        return NULL;
    }
    qsort(set->scripts, set->n, sizeof *set->scripts, by_name);
    compute_hash(set);
    return set;
}

struct script_set *script_set_share(struct script_set *set)
{
    atomic_fetch_add_explicit(&set->owners, 1, memory_order_relaxed);
    return set;
}

void script_set_release(struct script_set *set)
{
    if (set == NULL || atomic_fetch_sub_explicit(&set->owners, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < set->n; i++) {
        free(set->scripts[i].name);
        free((char *)set->scripts[i].text.base);
    }
    free(set->scripts);
    free(set);
}

uint32_t script_set_generation(const struct script_set *set)
{
    return set->generation;
}

const char *script_set_hash(const struct script_set *set)
{
    return set->hash;
}

const struct script *script_set_find(const struct script_set *set, const char *name)
{
    for (size_t low = 0, high = set->n; low < high;) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, set->scripts[middle].name);
        if (order == 0)
            return &set->scripts[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const struct script *script_set_scripts(const struct script_set *set, size_t *n)
{
    *n = set->n;
    return set->scripts;
}
