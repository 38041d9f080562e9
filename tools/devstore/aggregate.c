/* Pipelines: each stage pushes what it makes into the next one. */
#include "aggregate.h"

#include "expression.h"

#include <stdlib.h>
#include <string.h>

enum stage_kind { STAGE_MATCH, STAGE_GROUP, STAGE_SORT, STAGE_SKIP, STAGE_LIMIT, STAGE_PROJECT, STAGE_COUNT, STAGE_KINDS };
static const char *const stage_names[STAGE_KINDS] = {"$match", "$group", "$sort", "$skip", "$limit", "$project", "$count"};

enum accumulate { ACC_SUM, ACC_AVG, ACC_MIN, ACC_MAX, ACC_FIRST, ACC_LAST, ACC_PUSH, ACC_ADD_TO_SET, ACC_COUNT, ACC_KINDS };
static const char *const accumulator_names[ACC_KINDS] = {"$sum", "$avg", "$min", "$max", "$first", "$last", "$push",
                                                         "$addToSet", "$count"};

enum { GROUP_BUCKETS = 4096 };

struct accumulator {
    const char *field;
    enum accumulate kind;
    struct value expression;
    struct accumulator *next;
};

struct state { /* of one accumulator in one group */
    int64_t whole, count;
    double real;
    bool wide, floating; /* the widest type that was added up */
    struct value value;
    struct buffer list; /* struct value */
};

struct group {
    struct buffer key;
    struct value id;
    struct state *states;
    struct group *in_bucket, *next;
};

struct stage {
    enum stage_kind kind;
    struct stage *next;
    struct query query;
    struct sorter sorter;
    struct projection projection;
    int64_t number, seen;
    const char *name; /* $count */
    struct value id;  /* $group */
    struct accumulator *accumulators;
    size_t accumulator_count;
    struct group **buckets, *groups, **last;
};

static bool compile_group(struct pipeline *p, struct stage *s, struct value spec, struct error *error)
{
    struct field f, call;
    if (spec.type != BSON_TYPE_DOCUMENT || !document_get(spec, "_id").type)
        return error_set(error, 15955, "a group specification must include an _id");
    s->buckets = arena_get(&p->arena, GROUP_BUCKETS * sizeof *s->buckets);
    s->last = &s->groups;
    for (struct fields it = fields_of(spec); fields_next(&it, &f);) {
        if (strcmp(f.key, "_id") == 0) {
            s->id = f.value;
            if (!expression_check(f.value, p->let, error))
                return false;
            continue;
        }
        struct fields calls = fields_of(f.value);
        if (f.value.type != BSON_TYPE_DOCUMENT || !fields_next(&calls, &call))
            return error_set(error, 40234, "The field '%s' must be an accumulator object", f.key);
        struct accumulator *a = arena_get(&p->arena, sizeof *a);
        *a = (struct accumulator){.field = f.key, .expression = call.value};
        while (a->kind < ACC_KINDS && strcmp(accumulator_names[a->kind], call.key) != 0)
            a->kind++;
        if (a->kind == ACC_KINDS)
            return error_set(error, 15952, "unknown group operator '%s'", call.key);
        if (a->kind != ACC_COUNT && !expression_check(call.value, p->let, error))
            return false;
        struct accumulator **at = &s->accumulators;
        while (*at)
            at = &(*at)->next;
        *at = a;
        s->accumulator_count++;
    }
    return true;
}

static bool compile_stage(struct pipeline *p, struct stage *s, struct field op, struct error *error)
{
    while (s->kind < STAGE_KINDS && strcmp(stage_names[s->kind], op.key) != 0)
        s->kind++;
    switch (s->kind) {
    case STAGE_MATCH:
        if (op.value.type != BSON_TYPE_DOCUMENT)
            return error_set(error, 15959, "the match filter must be an expression in an object");
        return query_compile(&s->query, &p->arena, op.value, p->let, error);
    case STAGE_GROUP: return compile_group(p, s, op.value, error);
    case STAGE_SORT:
        s->sorter.sort = op.value;
        if (op.value.type != BSON_TYPE_DOCUMENT || document_is_empty(op.value))
            return error_set(error, 15976, "$sort stage must have at least one sort key");
        return check_sort(op.value, error);
    case STAGE_PROJECT:
        if (op.value.type != BSON_TYPE_DOCUMENT || document_is_empty(op.value))
            return error_set(error, 51272, "Invalid $project: specification must have at least one field");
        return projection_compile(&s->projection, op.value, p->let, error);
    case STAGE_COUNT:
        s->name = value_text(op.value);
        return (s->name && *s->name && *s->name != '$' && !strchr(s->name, '.')) ||
               error_set(error, 40156, "the count field must be a non-empty string, not start with '$' nor contain '.'");
    case STAGE_SKIP: case STAGE_LIMIT:
        if (!value_to_int64(op.value, &s->number) || s->number < (s->kind == STAGE_LIMIT))
            return error_set(error, s->kind == STAGE_LIMIT ? 15958 : 15956, "invalid argument to %s stage: it must be a %s "
                             "number", op.key, s->kind == STAGE_LIMIT ? "positive" : "non-negative");
        return true;
    default: return error_set(error, 40324, "Unrecognized pipeline stage name: '%s'", op.key);
    }
}

bool pipeline_compile(struct pipeline *p, struct value stages, struct value let, struct error *error)
{
    struct field f, op, more;
    struct stage **at = &p->first;
    *p = (struct pipeline){.let = let};
    if (stages.type != BSON_TYPE_ARRAY)
        return error_set(error, 14, "'pipeline' option must be specified as an array");
    for (struct fields it = fields_of(stages); fields_next(&it, &f); at = &(*at)->next) {
        struct fields ops = fields_of(f.value);
        if (f.value.type != BSON_TYPE_DOCUMENT || !fields_next(&ops, &op) || fields_next(&ops, &more))
            return error_set(error, 40323, "A pipeline stage specification object must contain exactly one field.");
        *at = arena_get(&p->arena, sizeof **at);
        if (!compile_stage(p, *at, op, error))
            return false;
    }
    return true;
}

static bool push(struct pipeline *p, struct stage *s, struct value document, struct error *error);

static struct group *group_of(struct pipeline *p, struct stage *s, struct value document)
{
    struct value id = expression_evaluate(s->id, document, p->let, &p->arena);
    struct buffer key = {0};
    size_t hash = 5381;
    if (id.type == BSON_TYPE_EOD)
        id = (struct value){.type = BSON_TYPE_NULL, .data = (const uint8_t *)""};
    key_append(&key, id, false);
    for (size_t i = 0; i < key.size; i++)
        hash = hash * 33 + key.data[i];
    struct group **bucket = &s->buckets[hash % GROUP_BUCKETS];
    for (struct group *g = *bucket; g; g = g->in_bucket)
        if (g->key.size == key.size && memcmp(g->key.data, key.data, key.size) == 0) {
            buffer_free(&key);
            return g;
        }
    struct group *g = arena_get(&p->arena, sizeof *g);
    *g = (struct group){.key = key, .id = value_copy(&p->arena, id), .in_bucket = *bucket,
                        .states = arena_get(&p->arena, (s->accumulator_count + 1) * sizeof *g->states)};
    *bucket = *s->last = g;
    s->last = &g->next;
    return g;
}

static void add_number(struct state *state, struct value v)
{
    int64_t whole = 0;
    if (!value_is_number(v))
        return;
    state->count++;
    state->wide = state->wide || v.type == BSON_TYPE_INT64;
    bool fits = !state->floating && v.type != BSON_TYPE_DOUBLE && v.type != BSON_TYPE_DECIMAL128 &&
                value_to_int64(v, &whole) && !__builtin_add_overflow(state->whole, whole, &state->whole);
    if (!fits) {
        if (!state->floating)
            state->real = (double)state->whole - (double)whole * (v.type == BSON_TYPE_INT64 && whole);
        state->floating = true;
        state->real += value_to_double(v);
    }
}

static void accumulate(struct pipeline *p, const struct accumulator *a, struct state *state, struct value document)
{
    struct value v = a->kind == ACC_COUNT ? (struct value){0}
                                          : expression_evaluate(a->expression, document, p->let, &p->arena);
    bool null = v.type == BSON_TYPE_EOD || v.type == BSON_TYPE_NULL;
    bool set = state->value.type != BSON_TYPE_EOD;
    switch (a->kind) {
    case ACC_SUM: case ACC_AVG: add_number(state, v); break;
    case ACC_COUNT: state->whole++; break;
    case ACC_MIN: case ACC_MAX: {
        int order = set && !null ? value_compare(v, state->value) : 0;
        if (!null && (!set || (a->kind == ACC_MIN ? order < 0 : order > 0)))
            state->value = value_copy(&p->arena, v);
        break;
    }
    case ACC_FIRST: case ACC_LAST:
        if (!set || a->kind == ACC_LAST)
            state->value = v.type ? value_copy(&p->arena, v)
                                  : (struct value){.type = BSON_TYPE_NULL, .data = (const uint8_t *)""};
        break;
    default:
        if (a->kind == ACC_ADD_TO_SET)
            for (size_t i = 0; i < state->list.size / sizeof v; i++)
                if (value_compare(((struct value *)(void *)state->list.data)[i], v) == 0)
                    return;
        if (v.type) {
            v = value_copy(&p->arena, v);
            buffer_append(&state->list, &v, sizeof v);
        }
    }
}

static void put_result(struct buffer *out, const struct accumulator *a, const struct state *state)
{
    size_t mark;
    switch (a->kind) {
    case ACC_COUNT: case ACC_SUM:
        if (state->floating)
            put_double(out, a->field, state->real);
        else if (state->wide)
            put_int64(out, a->field, state->whole);
        else
            put_number(out, a->field, state->whole);
        break;
    case ACC_AVG:
        if (state->count)
            put_double(out, a->field, (state->floating ? state->real : (double)state->whole) / (double)state->count);
        else
            put_null(out, a->field);
        break;
    case ACC_PUSH: case ACC_ADD_TO_SET:
        mark = put_open(out, a->field, BSON_TYPE_ARRAY);
        for (size_t i = 0; i < state->list.size / sizeof(struct value); i++)
            put_item(out, i, ((struct value *)(void *)state->list.data)[i]);
        document_close(out, mark);
        break;
    default:
        if (state->value.type)
            put_value(out, a->field, state->value);
        else
            put_null(out, a->field);
    }
}

static void group_add(struct pipeline *p, struct stage *s, struct value document)
{
    struct group *g = group_of(p, s, document);
    size_t i = 0;
    for (const struct accumulator *a = s->accumulators; a; a = a->next)
        accumulate(p, a, &g->states[i++], document);
}

static bool group_finish(struct pipeline *p, struct stage *s, struct error *error)
{
    struct buffer out = {0};
    bool ok = true;
    for (const struct group *g = s->groups; ok && g; g = g->next) {
        size_t i = 0;
        out.size = 0;
        size_t mark = document_open(&out);
        put_value(&out, "_id", g->id);
        for (const struct accumulator *a = s->accumulators; a; a = a->next)
            put_result(&out, a, &g->states[i++]);
        document_close(&out, mark);
        ok = push(p, s->next, buffer_document(&out), error);
    }
    buffer_free(&out);
    return ok;
}

static bool push(struct pipeline *p, struct stage *s, struct value document, struct error *error)
{
    if (!s) {
        buffer_append(&p->results, document.data, document.size);
        return true;
    }
    switch (s->kind) {
    case STAGE_MATCH: return !query_matches(&s->query, document, NULL) || push(p, s->next, document, error);
    case STAGE_SKIP: return s->seen++ < s->number || push(p, s->next, document, error);
    case STAGE_LIMIT: return s->seen++ >= s->number || push(p, s->next, document, error);
    case STAGE_SORT: return sorter_add(&s->sorter, document, error);
    case STAGE_COUNT: s->seen++; return true;
    case STAGE_PROJECT: {
        struct buffer out = {0};
        projection_apply(&s->projection, document, &out);
        bool ok = push(p, s->next, buffer_document(&out), error);
        buffer_free(&out);
        return ok;
    }
    default: group_add(p, s, document); return true;
    }
}

bool pipeline_push(struct pipeline *p, struct value document, struct error *error)
{
    return push(p, p->first, document, error);
}

static bool push_all(struct pipeline *p, struct stage *s, const struct buffer *documents, struct error *error)
{
    for (size_t at = 0; at < documents->size;) {
        struct value document = document_view(documents->data + at);
        at += document.size;
        if (!push(p, s, document, error))
            return false;
    }
    return true;
}

bool pipeline_finish(struct pipeline *p, struct error *error)
{
    bool ok = true;
    for (struct stage *s = p->first; ok && s; s = s->next) {
        struct buffer out = {0};
        if (s->kind == STAGE_SORT) {
            sorter_finish(&s->sorter, 0, 0, &out);
            ok = push_all(p, s->next, &out, error);
        } else if (s->kind == STAGE_COUNT && s->seen) {
            size_t mark = document_open(&out);
            put_number(&out, s->name, s->seen);
            document_close(&out, mark);
            ok = push(p, s->next, buffer_document(&out), error);
        } else if (s->kind == STAGE_GROUP) {
            ok = group_finish(p, s, error);
        }
        buffer_free(&out);
    }
    return ok;
}

void pipeline_free(struct pipeline *p)
{
    for (struct stage *s = p->first; s; s = s->next) {
        query_free(&s->query);
        buffer_free(&s->sorter.entries);
        arena_free(&s->sorter.arena);
        for (struct group *g = s->groups; g; g = g->next) {
            buffer_free(&g->key);
            for (size_t i = 0; i < s->accumulator_count; i++)
                buffer_free(&g->states[i].list);
        }
    }
    arena_free(&p->arena);
    buffer_free(&p->results);
}
