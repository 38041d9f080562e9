/* Choosing an index, and scanning. */
#include "storage_internal.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK = 256, DEADLINE_STEP = 64 };

/* Index keys say nothing about these: arrays have a key an element, a missing field has a null's. */
static bool is_exact(const struct buffer *key)
{
    static const bson_type_t vague[] = {BSON_TYPE_EOD,    BSON_TYPE_NULL,   BSON_TYPE_ARRAY,
                                        BSON_TYPE_MINKEY, BSON_TYPE_MAXKEY, BSON_TYPE_UNDEFINED};
    for (size_t i = 0; i < sizeof vague / sizeof *vague; i++)
        if (key->data[0] == key_rank((value){.value_type = vague[i]}))
            return false;
    return true;
}

/* What the query demands of a path with one of these operators, if an index can tell. */
static const struct match *condition(const struct match *query, const char *path, enum match_op from, enum match_op to)
{
    for (const struct match *m = query->children; m; m = m->next) {
        const struct match *within = m->op == MATCH_AND && !m->negated ? condition(m, path, from, to) : NULL;
        if (within)
            return within;
        bool usable = !m->negated && m->op >= from && m->op <= to && !m->children && strcmp(m->path, path) == 0;
        for (size_t i = 0; usable && i < m->count; i++)
            usable = is_exact(&m->keys[i]);
        if (usable)
            return m;
    }
    return NULL;
}

struct choice {
    const struct index *index;
    size_t equal;                        /* leading fields with an equality */
    const struct match *in, *low, *high; /* on the field after them */
    bool ordered, backwards;
    int score;
};

/* Whether the fields after the equalities are those of the sort, all upwards or all downwards. */
static bool gives_order(const struct index *index, size_t equal, value sort, bool *backwards)
{
    size_t at = 0, down = 0, fields = 0;
    if (index->multikey || document_is_empty(sort))
        return false;
    for (bson_iter_t it = fields_of(sort); bson_iter_next(&it); fields++, at++) {
        while (at < equal && strcmp(index->paths[at], bson_iter_key(&it)) != 0)
            at++; /* fields fixed by an equality order nothing */
        if (at >= index->count || strcmp(index->paths[at], bson_iter_key(&it)) != 0)
            return false;
        down += value_to_double(*bson_iter_value(&it)) < 0;
    }
    *backwards = down > 0;
    return down == 0 || down == fields;
}

static struct choice consider(const struct match *query, const struct index *index, value sort)
{
    struct choice choice = {.index = index};
    while (choice.equal < index->count && condition(query, index->paths[choice.equal], MATCH_EQ, MATCH_EQ))
        choice.equal++;
    if (choice.equal < index->count) {
        const char *path = index->paths[choice.equal];
        choice.in = condition(query, path, MATCH_IN, MATCH_IN);
        choice.low = choice.in ? NULL : condition(query, path, MATCH_GT, MATCH_GTE);
        choice.high = choice.in ? NULL : condition(query, path, MATCH_LT, MATCH_LTE);
    }
    if (choice.low && choice.high && (index->multikey || key_rank(choice.low->arg) != key_rank(choice.high->arg)))
        choice.high = NULL; /* different elements of an array may satisfy each */
    choice.ordered = !choice.in && gives_order(index, choice.equal, sort, &choice.backwards);
    choice.score =
        (int)choice.equal * 8 + (choice.in ? 6 : 0) + (choice.low ? 2 : 0) + (choice.high ? 2 : 0) + choice.ordered;
    if (choice.equal == index->count && index->unique)
        choice.score += 1000; /* at most one document */
    return choice;
}

/* A rank is below 0x7f, so that 0xff is above whatever may follow a key, and a rank + 1 above all keys of the rank. */
static void make_ranges(struct scan *scan, const struct choice *choice)
{
    struct buffer prefix = {0};
    index_prefix(choice->index, &prefix);
    for (size_t i = 0; i < choice->equal; i++) {
        const struct buffer *key = condition(scan->query, choice->index->paths[i], MATCH_EQ, MATCH_EQ)->keys;
        buffer_append(&prefix, key->data, key->size);
    }
    size_t count = choice->in ? choice->in->count : 1;
    scan->ranges = bson_malloc0((count + 1) * sizeof *scan->ranges);
    for (size_t i = 0; i < count; i++) {
        if (choice->in && i > 0 && buffer_compare(&choice->in->keys[i - 1], &choice->in->keys[i]) == 0)
            continue;
        struct range *range = &scan->ranges[scan->count++];
        buffer_append(&range->low, prefix.data, prefix.size);
        if (choice->in)
            buffer_append(&range->low, choice->in->keys[i].data, choice->in->keys[i].size);
        buffer_append(&range->high, range->low.data, range->low.size);
        const struct match *bound = choice->low ? choice->low : choice->high;
        uint8_t rank = bound ? bound->keys->data[0] : 0, above = choice->high || !bound ? 0xff : rank + 1;
        if (bound)
            buffer_append(&range->low, choice->low ? bound->keys->data : &rank, choice->low ? bound->keys->size : 1);
        if (choice->high)
            buffer_append(&range->high, choice->high->keys->data, choice->high->keys->size);
        buffer_append(&range->high, &above, 1);
    }
    buffer_free(&prefix);
}

/* Reads the next chunk of row numbers; of a multikey index the whole range. */
static bool read_chunk(struct scan *scan, struct error *error)
{
    const struct collection *c = scan->collection;
    enum sql sql = (scan->index ? SQL_ENTRIES : SQL_ROWS) + scan->backwards;
    struct parameters p = {.number = c->first_row, .limit = collection_end(c)};
    struct buffer key = {0};
    int64_t *last = scan->begun ? (int64_t *)(void *)(scan->rows.data + scan->rows.size) - 1 : NULL;
    if (scan->index) {
        const struct range *range = &scan->ranges[scan->backwards ? scan->count - 1 - scan->range_at : scan->range_at];
        p = (struct parameters){-1, scan->index->multikey ? -1 : CHUNK, range->low, range->high};
    }
    if (last && scan->index)
        *(scan->backwards ? &p.high : &p.low) = scan->key;
    if (last)
        *(scan->backwards && !scan->index ? &p.limit : &p.number) = *last;
    size_t count = 0;
    int result;
    sqlite3_stmt *statement = handle_bind(scan->handle, sql, p);
    if (!scan->index || !scan->index->multikey)
        scan->rows.size = scan->row_at = 0;
    for (; (result = sqlite3_step(statement)) == SQLITE_ROW; count++) {
        int64_t row = sqlite3_column_int64(statement, 0);
        buffer_append(&scan->rows, &row, sizeof row);
        key.size = 0;
        if (scan->index)
            buffer_append(&key, sqlite3_column_blob(statement, 1), (size_t)sqlite3_column_bytes(statement, 1));
    }
    sqlite3_reset(statement);
    buffer_free(&scan->key); /* only now: the statement was using it */
    scan->key = key;
    scan->begun = count == CHUNK;
    scan->range_at += !scan->begun;
    return result == SQLITE_DONE || handle_error(scan->handle, error);
}

static int by_row(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* A document may have several keys in a multikey index: all rows are collected first, each once. */
static bool collect_rows(struct scan *scan, struct error *error)
{
    while (scan->range_at < scan->count)
        if (!read_chunk(scan, error))
            return false;
    int64_t *rows = (void *)scan->rows.data;
    size_t count = scan->rows.size / sizeof *rows, kept = 0;
    if (count)
        qsort(rows, count, sizeof *rows, by_row);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || rows[kept - 1] != rows[i])
            rows[kept++] = rows[i];
    scan->rows.size = kept * sizeof *rows;
    return true;
}

static void plan(struct scan *scan, value sort, const struct index *hint)
{
    struct choice best = {0};
    for (const struct index *index = scan->collection->indexes; index; index = index->next) {
        struct choice choice = consider(scan->query, index, sort);
        if (hint ? index == hint : choice.score > best.score)
            best = choice;
    }
    if (!best.index) {
        scan->count = 1; /* all rows are one range */
        return;
    }
    scan->index = best.index;
    scan->ordered = best.ordered;
    scan->backwards = best.ordered && best.backwards;
    make_ranges(scan, &best);
}

bool scan_open(struct scan *scan, struct handle *handle, struct collection *collection, const struct match *query,
               value sort, value hint, struct error *error)
{
    *scan = (struct scan){.handle = handle, .collection = collection, .query = query, .deadline = scan->deadline};
    if (!collection)
        return true;
    value natural = document_get(hint, "$natural");
    if (!natural.value_type)
        natural = document_get(sort, "$natural");
    bool named = value_text(hint) || (!document_is_empty(hint) && !natural.value_type);
    const struct index *index = named ? index_find(collection, hint) : NULL;
    if (named && !index)
        return error_set(error, 2,
                         "error processing query: planner returned error: hint provided does not correspond "
                         "to an existing index");
    if (!natural.value_type) {
        plan(scan, sort, index);
    } else {
        scan->count = 1;
        scan->ordered = document_get(sort, "$natural").value_type != BSON_TYPE_EOD;
        scan->backwards = value_to_double(natural) < 0;
    }
    return !scan->index || !scan->index->multikey || collect_rows(scan, error);
}

int scan_next(struct scan *scan, int64_t *row, value *document, struct error *error)
{
    if (!scan->collection)
        return 0;
    for (unsigned seen = 1;; seen++) {
        if ((scan->index ? scan->index : scan->collection->indexes)->dropped)
            return error_set(error, 175, "collection or index was dropped while it was read") - 1;
        while (scan->row_at == scan->rows.size) {
            if (scan->range_at == scan->count)
                return 0;
            if (!read_chunk(scan, error))
                return -1;
        }
        memcpy(row, scan->rows.data + scan->row_at, sizeof *row);
        scan->row_at += sizeof *row;
        if (!row_get(scan->handle, *row, &scan->document))
            continue; /* deleted since the chunk was read */
        atomic_fetch_add_explicit(&scan->handle->store->examined, 1, memory_order_relaxed);
        *document = document_view(scan->document.data);
        if (query_matches(scan->query, *document))
            return 1;
        if (scan->deadline && seen % DEADLINE_STEP == 0 && clock_ms() > scan->deadline)
            return error_set(error, 50, "operation exceeded time limit") - 1;
    }
}

void scan_close(struct scan *scan)
{
    for (size_t i = 0; scan->ranges && i < scan->count; i++) {
        buffer_free(&scan->ranges[i].low);
        buffer_free(&scan->ranges[i].high);
    }
    bson_free(scan->ranges);
    buffer_free(&scan->rows);
    buffer_free(&scan->key);
    buffer_free(&scan->document);
    *scan = (struct scan){0};
}
