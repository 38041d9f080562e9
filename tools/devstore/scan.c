/* Choosing an index, and scanning. */
#include "storage_internal.h"

#include <stdlib.h>
#include <string.h>

enum { DEADLINE_STEP = 64 };

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
    size_t score;
};

/* Whether the fields after the equalities are those of the sort, all upwards or all downwards. */
static bool gives_order(const struct index *index, size_t equal, value sort, bool *backwards)
{
    size_t at = 0, down = 0, fields = 0;
    if (index->multikey || document_is_empty(sort))
        return false;
    for (struct fields it = fields_of(sort); fields_next(&it); fields++, at++) {
        while (at < equal && strcmp(index->paths[at], it.key) != 0)
            at++; /* fields fixed by an equality order nothing */
        if (at >= index->count || strcmp(index->paths[at], it.key) != 0)
            return false;
        down += value_to_double(it.v) < 0;
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
    size_t bounds = choice.in ? 3 : choice.low && choice.high ? 2 : choice.low || choice.high;
    choice.score = choice.equal * 8 + bounds * 2 + choice.ordered;
    if (choice.equal == index->count && index->unique)
        choice.score += 1000; /* at most one document */
    return choice;
}

/* A rank is below 0x7f, so that 0xff is above whatever may follow a key, and a rank + 1 above all keys of the rank. */
static struct range make_range(const struct buffer *prefix, const struct buffer *point, const struct match *low,
                               const struct match *high)
{
    struct range range = {0};
    uint8_t rank = low || high ? (low ? low : high)->keys->data[0] : 0, above = high || !low ? 0xff : rank + 1;
    buffer_append(&range.low, prefix->data, prefix->size);
    if (point)
        buffer_append(&range.low, point->data, point->size);
    buffer_append(&range.high, range.low.data, range.low.size);
    if (low)
        buffer_append(&range.low, low->keys->data, low->keys->size);
    else if (high)
        buffer_append(&range.low, &rank, 1);
    if (high)
        buffer_append(&range.high, high->keys->data, high->keys->size);
    buffer_append(&range.high, &above, 1);
    return range;
}

static void make_ranges(struct scan *scan, const struct choice *choice)
{
    struct buffer prefix = index_prefix(choice->index->id);
    for (size_t i = 0; i < choice->equal; i++) {
        const struct buffer *key = condition(scan->query, choice->index->paths[i], MATCH_EQ, MATCH_EQ)->keys;
        buffer_append(&prefix, key->data, key->size);
    }
    size_t count = choice->in ? choice->in->count : 1;
    scan->ranges = bson_malloc0((count + 1) * sizeof *scan->ranges);
    for (size_t i = 0; i < count; i++) {
        const struct buffer *point = choice->in ? &choice->in->keys[i] : NULL;
        if (i == 0 || buffer_compare(point - 1, point) != 0) /* the keys of an $in are sorted */
            scan->ranges[scan->count++] = make_range(&prefix, point, choice->low, choice->high);
    }
    buffer_free(&prefix);
}

static void plan(struct scan *scan, value sort, const struct index *hint)
{
    struct choice best = {0};
    for (const struct index *index = scan->collection->indexes; index; index = index->next) {
        struct choice choice = consider(scan->query, index, sort);
        if (hint ? index == hint : choice.score > best.score)
            best = choice;
    }
    if (!best.index)
        return;
    scan->index = best.index;
    scan->by_rows = best.index->multikey;
    scan->ordered = best.ordered && !scan->by_rows;
    scan->backwards = scan->ordered && best.backwards;
    make_ranges(scan, &best);
}

static int by_row(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* A document may have several keys in a multikey index: its rows are collected first, each once. */
static bool collect_rows(struct scan *scan, struct failure *error)
{
    struct buffer found = {0};
    size_t kept = 0;
    for (size_t i = 0; i < scan->count; i++) {
        sqlite3_stmt *statement =
            handle_bind(scan->handle, "SELECT r FROM entries WHERE k >= ?3 AND k < ?4",
                        (struct parameters){.low = scan->ranges[i].low, .high = scan->ranges[i].high});
        while (sqlite3_step(statement) == SQLITE_ROW)
            buffer_append(&found, &(int64_t){sqlite3_column_int64(statement, 0)}, sizeof(int64_t));
        if (sqlite3_reset(statement) != SQLITE_OK)
            handle_error(scan->handle, error);
    }
    int64_t *rows = scan->rows = (void *)found.data;
    size_t count = found.size / sizeof *rows;
    if (count)
        qsort(rows, count, sizeof *rows, by_row);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || rows[kept - 1] != rows[i])
            rows[kept++] = rows[i];
    scan->row_count = kept;
    return error->code == 0;
}

bool scan_open(struct scan *scan, struct handle *handle, struct collection *collection, const struct match *query,
               value sort, value hint, struct failure *error)
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
        return fail(error, 2,
                    "error processing query: planner returned error: hint provided does not correspond "
                    "to an existing index");
    if (!natural.value_type)
        plan(scan, sort, index);
    scan->ordered = scan->ordered || document_get(sort, "$natural").value_type;
    scan->backwards = scan->backwards || value_to_double(natural) < 0;
    return !scan->by_rows || collect_rows(scan, error);
}

/* The statement for the next range, or for the next row of a multikey index; NULL at the end. */
static sqlite3_stmt *next_statement(struct scan *scan)
{
    size_t at = scan->at++;
    if (at == (scan->by_rows ? scan->row_count : scan->index ? scan->count : 1))
        return NULL;
    if (scan->by_rows)
        return handle_bind(scan->handle, "SELECT r, doc FROM documents WHERE r = ?1",
                           (struct parameters){.number = scan->rows[at]});
    if (!scan->index)
        return handle_bind(scan->handle,
                           scan->backwards ? "SELECT r, doc FROM documents WHERE r > ?1 AND r < ?2 ORDER BY r DESC"
                                           : "SELECT r, doc FROM documents WHERE r > ?1 AND r < ?2 ORDER BY r",
                           all_rows(scan->collection));
    const struct range *range = &scan->ranges[scan->backwards ? scan->count - 1 - at : at];
    return handle_bind(scan->handle,
                       scan->backwards ? "SELECT r, doc FROM entries CROSS JOIN documents USING (r) "
                                         "WHERE k >= ?3 AND k < ?4 ORDER BY k DESC, r DESC"
                                       : "SELECT r, doc FROM entries CROSS JOIN documents USING (r) "
                                         "WHERE k >= ?3 AND k < ?4 ORDER BY k, r",
                       (struct parameters){.low = range->low, .high = range->high});
}

int scan_next(struct scan *scan, int64_t *row, value *document, struct failure *error)
{
    for (unsigned seen = 1; scan->collection; seen++) {
        if (!scan->statement && !(scan->statement = next_statement(scan)))
            return 0;
        int result = sqlite3_step(scan->statement);
        /* the first step takes the snapshot: what the plan was made for must still be so */
        if (scan->index && (scan->index->dropped || scan->index->multikey != scan->by_rows))
            return fail(error, 175, "the index changed while the query was planned") - 1;
        if (result == SQLITE_ROW) {
            *row = sqlite3_column_int64(scan->statement, 0);
            *document = document_view(sqlite3_column_blob(scan->statement, 1));
            atomic_fetch_add_explicit(&scan->handle->store->examined, 1, memory_order_relaxed);
            if (query_matches(scan->query, *document))
                return 1;
            if (scan->deadline && seen % DEADLINE_STEP == 0 && clock_ms() > scan->deadline)
                return fail(error, 50, "operation exceeded time limit") - 1;
            continue;
        }
        if (result != SQLITE_DONE)
            return handle_error(scan->handle, error) - 1;
        sqlite3_reset(scan->statement);
        scan->statement = NULL;
    }
    return 0;
}

void scan_close(struct scan *scan)
{
    if (scan->statement)
        sqlite3_reset(scan->statement);
    for (size_t i = 0; i < scan->count; i++) {
        buffer_free(&scan->ranges[i].low);
        buffer_free(&scan->ranges[i].high);
    }
    bson_free(scan->ranges);
    bson_free(scan->rows);
    *scan = (struct scan){0};
}
