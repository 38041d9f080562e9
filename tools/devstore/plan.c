/* Choosing an index, and scanning. */
#include "catalog.h"

#include <stdlib.h>
#include <string.h>

/* Index keys say nothing about these: arrays have a key an element, a missing field has a null's. */
static bool has_key(struct value v)
{
    return v.type != BSON_TYPE_ARRAY && v.type != BSON_TYPE_NULL && v.type != BSON_TYPE_EOD &&
           v.type != BSON_TYPE_UNDEFINED && v.type != BSON_TYPE_MINKEY && v.type != BSON_TYPE_MAXKEY;
}

static bool usable(const struct match *m, const char *path)
{
    if (!m->path || strcmp(m->path, path) != 0)
        return false;
    if (m->op == MATCH_IN) {
        for (size_t i = 0; i < m->count; i++)
            if (!has_key(m->list[i]))
                return false;
        return true;
    }
    return (m->op == MATCH_EQ || (m->op >= MATCH_GT && m->op <= MATCH_LTE)) && has_key(m->arg);
}

static const struct match *condition(const struct query *query, const char *path, enum match_op from, enum match_op to)
{
    for (const struct match *m = query->root->children; m; m = m->next)
        if (m->op >= from && m->op <= to && usable(m, path))
            return m;
    return NULL;
}

struct choice {
    const struct index *index;
    size_t equal;            /* leading fields with an equality */
    const struct match *in, *low, *high; /* on the field after them */
    bool ordered, backwards;
    size_t score;
};

/* Whether the fields after the equalities are those of the sort, all in its direction or all against it. */
static bool gives_order(const struct index *index, size_t equal, struct value sort, bool *backwards)
{
    struct field part;
    size_t at = 0, same = 0, count = 0;
    if (atomic_load(&index->multikey) || document_is_empty(sort))
        return false;
    for (struct fields it = fields_of(sort); fields_next(&it, &part); count++) {
        while (at < equal && strcmp(index->paths[at], part.key) != 0)
            at++; /* fields fixed by an equality order nothing */
        if (at >= index->count || strcmp(index->paths[at], part.key) != 0)
            return false;
        same += index->descending[at++] == (value_to_double(part.value) < 0);
    }
    *backwards = same == 0;
    return same == count || same == 0;
}

static struct choice consider(const struct query *query, const struct index *index, struct value sort)
{
    struct choice choice = {.index = index};
    while (choice.equal < index->count && condition(query, index->paths[choice.equal], MATCH_EQ, MATCH_EQ))
        choice.equal++;
    if (choice.equal < index->count) {
        const char *path = index->paths[choice.equal];
        choice.in = condition(query, path, MATCH_IN, MATCH_IN);
        if (!choice.in) {
            choice.low = condition(query, path, MATCH_GT, MATCH_GTE);
            choice.high = condition(query, path, MATCH_LT, MATCH_LTE);
        }
    }
    if (choice.low && choice.high && (atomic_load(&index->multikey) || value_rank(choice.low->arg.type) !=
                                                                           value_rank(choice.high->arg.type)))
        choice.high = NULL; /* different elements of an array may satisfy each */
    choice.ordered = !choice.in && gives_order(index, choice.equal, sort, &choice.backwards);
    size_t score = choice.equal * 4 + (choice.in ? 3 : 0) + (choice.low ? 1 : 0) + (choice.high ? 1 : 0);
    if (choice.equal == index->count && index->unique)
        score += 1000; /* at most one document */
    choice.score = score * 2 + choice.ordered;
    return choice;
}

static void key_end(struct buffer *key)
{
    buffer_byte(key, 0xff); /* above whatever may follow a key: tags, also inverted ones, are lower */
}

static void range_bounds(struct range *range, const struct choice *choice, bool descending)
{
    const struct match *low = descending ? choice->high : choice->low, *high = descending ? choice->low : choice->high;
    struct value typed = low ? low->arg : high->arg;
    unsigned tag = (unsigned)value_rank(typed.type);
    if (low)
        key_append(&range->low, low->arg, descending);
    else
        buffer_byte(&range->low, descending ? ~tag & 0xff : tag);
    if (high) {
        key_append(&range->high, high->arg, descending);
        key_end(&range->high);
    } else {
        buffer_byte(&range->high, (descending ? ~tag & 0xff : tag) + 1);
    }
}

static int by_low(const void *a, const void *b)
{
    const struct buffer *x = &((const struct range *)a)->low, *y = &((const struct range *)b)->low;
    return bytes_compare(x->data, x->size, y->data, y->size);
}

static void make_ranges(struct scan *scan, const struct choice *choice)
{
    struct buffer prefix = {0};
    for (size_t i = 0; i < choice->equal; i++)
        key_append(&prefix, condition(scan->query, choice->index->paths[i], MATCH_EQ, MATCH_EQ)->arg,
                   choice->index->descending[i]);
    scan->count = choice->in ? choice->in->count : 1;
    scan->ranges = arena_get(&scan->arena, (scan->count + 1) * sizeof *scan->ranges);
    for (size_t i = 0; i < scan->count; i++) {
        struct range *range = &scan->ranges[i];
        bool descending = choice->index->descending[choice->equal % MAX_INDEX_FIELDS];
        buffer_append(&range->low, prefix.data, prefix.size);
        if (choice->in)
            key_append(&range->low, choice->in->list[i], descending);
        buffer_append(&range->high, range->low.data, range->low.size);
        if (choice->low || choice->high)
            range_bounds(range, choice, descending);
        else
            key_end(&range->high);
    }
    qsort(scan->ranges, scan->count, sizeof *scan->ranges, by_low);
    size_t kept = 0;
    for (size_t i = 0; i < scan->count; i++)
        if (kept > 0 && by_low(&scan->ranges[kept - 1], &scan->ranges[i]) == 0) {
            buffer_free(&scan->ranges[i].low);
            buffer_free(&scan->ranges[i].high);
        } else {
            scan->ranges[kept++] = scan->ranges[i];
        }
    scan->count = kept;
    buffer_free(&prefix);
}

void plan_make(struct scan *scan, struct value sort, const struct index *hint)
{
    struct choice best = {0};
    for (const struct index *index = scan->collection->indexes; index; index = index->next) {
        if (hint && index != hint)
            continue;
        struct choice choice = consider(scan->query, index, sort);
        if (hint || choice.score > best.score)
            best = choice;
        if (best.score >= 2000)
            break;
    }
    if (best.index) {
        scan->index = best.index;
        scan->ordered = best.ordered;
        scan->backwards = best.ordered && best.backwards;
        make_ranges(scan, &best);
    }
}

/* The next statement in line, placed after what was already given out. */
static sqlite3_stmt *scan_statement(struct scan *scan, struct error *error)
{
    const struct collection *c = scan->collection;
    sqlite3_stmt *statement;
    if (scan->rows || !scan->index) {
        enum sql sql = scan->rows ? SQL_BY_ROW : scan->backwards ? SQL_TABLE_DOWN : SQL_TABLE;
        statement = statement_get(scan->handle, sql, c->id, 0, error);
        if (statement)
            sqlite3_bind_int64(statement, 1, scan->rows ? scan->rows[scan->at] : scan->row);
        return statement;
    }
    const struct range *range = &scan->ranges[scan->backwards ? scan->count - 1 - scan->at : scan->at];
    struct buffer low = range->low, high = range->high;
    bool point = !scan->index->id && low.size && high.size == low.size + 1 && !memcmp(high.data, low.data, low.size);
    enum sql up = point ? SQL_BY_ID : scan->index->id ? SQL_INDEX : SQL_ID_RANGE;
    statement = statement_get(scan->handle, scan->backwards && !point ? up + 1 : up, c->id, scan->index->id, error);
    if (!statement)
        return NULL;
    if (scan->key.size) {
        if (!scan->index->id && !scan->backwards)
            buffer_byte(&scan->key, 0); /* the least key after it */
        *(scan->backwards ? &high : &low) = scan->key;
    }
    sqlite3_bind_blob64(statement, 1, low.data ? low.data : (const uint8_t *)"", low.size, SQLITE_STATIC);
    if (!point)
        sqlite3_bind_blob64(statement, 2, high.data, high.size, SQLITE_STATIC);
    if (scan->index->id)
        sqlite3_bind_int64(statement, 3, scan->key.size ? scan->row : -1);
    return statement;
}

static int by_row(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void ranges_free(struct scan *scan)
{
    for (size_t i = 0; scan->ranges && i < scan->count; i++) {
        buffer_free(&scan->ranges[i].low);
        buffer_free(&scan->ranges[i].high);
    }
    scan->ranges = NULL;
}

static bool collect_rows(struct scan *scan, struct error *error)
{
    struct buffer found = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < scan->count; i++) {
        sqlite3_stmt *s = statement_get(scan->handle, SQL_INDEX_ROWS, 0, scan->index->id, error);
        if (!s)
            break;
        sqlite3_bind_blob64(s, 1, scan->ranges[i].low.data ? scan->ranges[i].low.data : (const uint8_t *)"",
                            scan->ranges[i].low.size, SQLITE_STATIC);
        sqlite3_bind_blob64(s, 2, scan->ranges[i].high.data, scan->ranges[i].high.size, SQLITE_STATIC);
        while (sqlite3_step(s) == SQLITE_ROW)
            buffer_append(&found, &(int64_t){sqlite3_column_int64(s, 0)}, sizeof(int64_t));
        ok = sqlite3_reset(s) == SQLITE_OK || handle_error(scan->handle, error);
    }
    size_t count = found.size / sizeof *scan->rows, kept = 0;
    ranges_free(scan);
    scan->rows = reallocate(found.data, found.size);
    qsort(scan->rows, count, sizeof *scan->rows, by_row);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || scan->rows[kept - 1] != scan->rows[i])
            scan->rows[kept++] = scan->rows[i];
    scan->count = kept;
    return error->code == 0;
}

/* What a hint names; natural order counts as none, backwards or not. */
static bool hinted(struct scan *scan, struct value hint, const struct index **index, struct error *error)
{
    struct value natural = document_get(hint, "$natural");
    *index = NULL;
    if (!hint.type || document_is_empty(hint) ? !value_text(hint) : natural.type != BSON_TYPE_EOD) {
        scan->backwards = natural.type && value_to_double(natural) < 0;
        return true;
    }
    for (struct index *i = scan->collection->indexes; i && !*index; i = i->next)
        if (value_text(hint) ? !strcmp(i->name, value_text(hint)) : !value_compare(document_get(i->spec, "key"), hint))
            *index = i;
    return *index || error_set(error, 2, "error processing query: planner returned error: hint provided does not "
                                         "correspond to an existing index");
}

bool scan_open(struct scan *scan, struct handle *handle, struct collection *collection, const struct query *query,
               struct value sort, struct value hint, struct error *error)
{
    *scan = (struct scan){.handle = handle, .collection = collection, .query = query, .deadline = scan->deadline};
    if (!collection)
        return true;
    const struct index *index;
    struct value natural = document_get(sort, "$natural");
    catalog_read_lock(handle_catalog(handle));
    bool ok = hinted(scan, hint, &index, error);
    if (ok && !document_get(hint, "$natural").type && !natural.type)
        plan_make(scan, sort, index);
    catalog_unlock(handle_catalog(handle));
    if (natural.type) {
        scan->ordered = true;
        scan->backwards = value_to_double(natural) < 0;
    }
    if (!scan->index) {
        scan->count = 1;
        scan->row = scan->backwards ? INT64_MAX : -1;
    }
    return ok && (!scan->index || !atomic_load(&scan->index->multikey) || collect_rows(scan, error));
}

static int scan_step(struct scan *scan, int64_t *row, struct value *document, struct error *error)
{
    while (scan->at < scan->count) {
        if (!scan->statement && !(scan->statement = scan_statement(scan, error)))
            return -1;
        int result = sqlite3_step(scan->statement);
        if (result == SQLITE_ROW) {
            *row = scan->row = sqlite3_column_int64(scan->statement, 0);
            *document = document_view(sqlite3_column_blob(scan->statement, 1));
            return 1;
        }
        sqlite3_reset(scan->statement);
        scan->statement = NULL;
        if (result != SQLITE_DONE)
            return handle_error(scan->handle, error) - 1;
        scan->key.size = 0;
        scan->at++;
    }
    return 0;
}

int scan_next(struct scan *scan, int64_t *row, struct value *document, struct error *error)
{
    int found;
    unsigned seen = 0;
    while ((found = scan_step(scan, row, document, error)) == 1) {
        handle_examined(scan->handle);
        if (query_matches(scan->query, *document, NULL))
            return 1;
        if (scan->deadline && ++seen % 64 == 0 && clock_ms() > scan->deadline)
            return error_set(error, 50, "operation exceeded time limit") - 1;
    }
    return found;
}

void scan_pause(struct scan *scan)
{
    if (!scan->statement)
        return;
    if (scan->rows || sqlite3_column_count(scan->statement) < 3) { /* no key: a row, a point, or the table */
        scan->at += scan->index != NULL;
    } else {
        scan->key.size = 0;
        buffer_append(&scan->key, sqlite3_column_blob(scan->statement, 2),
                      (size_t)sqlite3_column_bytes(scan->statement, 2));
    }
    sqlite3_reset(scan->statement);
    scan->statement = NULL;
}

void scan_resume(struct scan *scan, struct handle *handle)
{
    scan->handle = handle;
}

void scan_close(struct scan *scan)
{
    if (scan->statement)
        sqlite3_reset(scan->statement);
    ranges_free(scan);
    free(scan->rows);
    buffer_free(&scan->key);
    arena_free(&scan->arena);
    *scan = (struct scan){0};
}
