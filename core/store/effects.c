/* Step 4b: the writes that scripts asked for, each once per event. The guard is in the target document: applied holds
 * the mark of each write that was done to it. */
#include "commit.h"

#include <stdio.h>

#include "base/utf8.h"

/* A duplicate key means: applied already, or somebody made the document at this instant (then the next try fits), or
 * another unique index of the collection says no (then no try does). */
#define MAX_TRIES 4

#define ID_MAX_BYTES 1024

struct write_item {
    struct commit_item *owner;
    const struct effect_write *write;
    struct slice mark;
    size_t wave; /* the second write of one event to one document comes after the first, with a mark of its own */
    bool done, collided;
};

struct write_run {
    struct commit *commit;
    struct write_item *items;
    size_t n, waves;
};

static bool same_target(const struct effect_write *a, const struct effect_write *b)
{
    return slice_equal(a->collection, b->collection) && slice_equal(a->id, b->id);
}

/* No source begins with '#', so a numbered mark is no other event's key. */
static struct slice mark_of(struct arena *arena, struct slice key, size_t wave)
{
    return wave == 0 ? key : arena_printf(arena, "#%zu %.*s", wave + 1, SLICE_ARG(key));
}

static void add_items(struct write_run *run, struct commit_item *owner)
{
    const struct outcome *outcome = &owner->delivery->outcome;
    for (size_t w = 0; w < outcome->n_writes; w++) {
        struct write_item *item = &run->items[run->n++];
        *item = (struct write_item){.owner = owner, .write = &outcome->writes[w]};
        for (size_t before = 0; before < w; before++)
            item->wave += same_target(&outcome->writes[before], item->write);
        item->mark = mark_of(run->commit->client->scratch, owner->delivery->key, item->wave);
        run->waves = item->wave + 1 > run->waves ? item->wave + 1 : run->waves;
    }
}

static bool has_open_writes(const struct commit_item *item)
{
    return commit_is_open(item) && item->delivery->decision == DECISION_SUCCEED && !item->delivery->effects_applied;
}

static void open_run(struct write_run *run)
{
    struct commit *commit = run->commit;
    size_t total = 0;
    for (size_t i = 0; i < commit->n; i++)
        total += commit->items[i].delivery->outcome.n_writes;
    run->items = arena_alloc(commit->client->scratch, (total + 1) * sizeof(*run->items));
    for (size_t i = 0; i < commit->n; i++)
        if (has_open_writes(&commit->items[i]))
            add_items(run, &commit->items[i]);
}

static void refuse(struct write_run *run, struct write_item *item, struct slice why)
{
    char text[sizeof(((struct error *)NULL)->text)];
    snprintf(text, sizeof(text), "write to %.*s/%.*s: %.*s", SLICE_ARG(item->write->collection),
             SLICE_ARG(item->write->id), SLICE_ARG(why));
    for (size_t i = 0; i < run->n; i++)
        if (run->items[i].owner == item->owner)
            run->items[i].done = true;
    commit_refuse(run->commit, item->owner, text);
}

/* Adds our mark to the script's own $push, or a $push of our own. */
static bool merge_push(bson_t *update, const bson_iter_t *script_push, struct slice mark, struct error *err)
{
    bson_t push;
    bson_iter_t it;
    put_open(update, "$push", &push);
    bool ok = true;
    if (script_push != NULL && bson_iter_recurse(script_push, &it))
        while (ok && bson_iter_next(&it)) {
            ok = strcmp(bson_iter_key(&it), "applied") != 0;
            if (ok)
                bson_append_iter(&push, NULL, 0, &it);
        }
    put_text(&push, "applied", mark);
    put_close(update, &push);
    if (!ok)
        error_set(err, "'applied' is the gateway's own field");
    return ok;
}

static bool merge_update(const bson_t *script, struct slice mark, bson_t *update, struct error *err)
{
    bson_iter_t it;
    bool pushed = false;
    if (!bson_iter_init(&it, script))
        return false;
    while (bson_iter_next(&it)) {
        if (bson_iter_key(&it)[0] != '$') {
            error_set(err, "'%s' is not an update operator ($set, $inc, …)", bson_iter_key(&it));
            return false;
        }
        if (!BSON_ITER_HOLDS_DOCUMENT(&it)) {
            error_set(err, "%s needs an object of fields", bson_iter_key(&it));
            return false;
        }
        bool is_push = strcmp(bson_iter_key(&it), "$push") == 0;
        if (!is_push)
            bson_append_iter(update, NULL, 0, &it);
        else if (pushed || !merge_push(update, &it, mark, err))
            return false;
        pushed = pushed || is_push;
    }
    return pushed || merge_push(update, NULL, mark, err);
}

static bool build_update(const struct write_item *item, bson_t *update, struct error *err)
{
    bson_error_t error = {0};
    struct slice json = item->write->update;
    bson_t *script = bson_new_from_json((const uint8_t *)json.base, (ssize_t)json.len, &error);
    if (json.len == 0 || script == NULL) {
        error_set(err, "the update is not Extended JSON: %s", error.message);
        if (script != NULL)
            bson_destroy(script);
        return false;
    }
    bool merged = merge_update(script, item->mark, update, err);
    bson_destroy(script);
    return merged;
}

static bool is_good_id(struct slice id, struct error *err)
{
    bool good = id.len > 0 && id.len <= ID_MAX_BYTES && utf8_check(id);
    if (!good)
        error_set(err, "the id must be UTF-8 of 1 to %d bytes", ID_MAX_BYTES);
    return good;
}

static bool add_write(const struct write_item *item, struct bulk *bulk, struct error *err)
{
    bson_t filter = BSON_INITIALIZER, update = BSON_INITIALIZER;
    put_text(&filter, "_id", item->write->id);
    put_operator_text(&filter, "applied", "$ne", item->mark);
    bool added = is_good_id(item->write->id, err) && build_update(item, &update, err) &&
                 bulk_update(bulk, &filter, &update, true, err);
    bson_destroy(&filter);
    bson_destroy(&update);
    return added;
}

/* The open writes of one wave to one collection. */
struct write_group {
    struct write_run *run;
    mongoc_collection_t *collection;
    struct write_item **items;
    size_t n;
};

static enum store_result try_group(struct write_group *group, bool last, struct error *err)
{
    struct write_item **added = arena_alloc(group->run->commit->client->scratch, (group->n + 1) * sizeof(*added));
    struct error why = {{0}};
    struct bulk bulk;
    bulk_open(&bulk, group->run->commit->client, group->collection);
    for (size_t i = 0; i < group->n; i++) {
        if (group->items[i]->done)
            continue;
        group->items[i]->collided = false;
        added[bulk.n] = group->items[i];
        if (!add_write(group->items[i], &bulk, &why))
            refuse(group->run, group->items[i], slice_of(why.text));
    }
    enum store_result result = bulk_run(&bulk, err);
    for (size_t i = 0; i < bulk.n_errors && result == STORE_OK; i++) {
        struct write_item *item = added[bulk.errors[i].index];
        item->collided = bulk.errors[i].code == CODE_DUPLICATE_KEY && !last;
        if (!item->collided && !item->done)
            refuse(group->run, item, bulk.errors[i].message);
    }
    for (size_t i = 0; i < bulk.n && result == STORE_OK; i++)
        added[i]->done = added[i]->done || !added[i]->collided;
    bulk_close(&bulk);
    return result;
}

static void found_marks(void *arg, const bson_t *doc)
{
    struct write_group *group = arg;
    struct slice id = get_text(doc, "_id");
    bson_t applied;
    bson_iter_t it;
    if (!get_array(doc, "applied", &applied) || !bson_iter_init(&it, &applied))
        return;
    while (bson_iter_next(&it))
        for (size_t i = 0; i < group->n; i++)
            if (group->items[i]->collided && slice_equal(group->items[i]->write->id, id) &&
                slice_equal(group->items[i]->mark, iter_text(&it)))
                group->items[i]->done = true;
}

static enum store_result check_collided(struct write_group *group, bool *any, struct error *err)
{
    static const char *const fields[] = {"applied", NULL};
    struct store_client *client = group->run->commit->client;
    struct slice *ids = arena_alloc(client->scratch, (group->n + 1) * sizeof(*ids));
    size_t n = 0;
    for (size_t i = 0; i < group->n; i++)
        if (!group->items[i]->done)
            ids[n++] = group->items[i]->write->id;
    *any = n > 0;
    return n == 0 ? STORE_OK : client_find_ids(client, group->collection, ids, n, fields, found_marks, group, err);
}

static enum store_result apply_group(struct write_group *group, struct error *err)
{
    bool any = true;
    enum store_result result = STORE_OK;
    for (int tries = 1; tries <= MAX_TRIES && any && result == STORE_OK; tries++) {
        result = try_group(group, tries == MAX_TRIES, err);
        if (result == STORE_OK)
            result = check_collided(group, &any, err);
    }
    return result;
}

static bool is_own_collection(struct slice name)
{
    return slice_is(name, "events") || slice_is(name, "dead_letters");
}

static mongoc_collection_t *open_target(struct write_run *run, struct write_item *item, struct error *why)
{
    if (is_own_collection(item->write->collection)) {
        error_set(why, "this collection is the gateway's own");
        return NULL;
    }
    return client_collection(run->commit->client, item->write->collection, why);
}

/* All open writes of this wave to the collection of items[first]. */
static enum store_result apply_collection(struct write_run *run, size_t first, struct error *err)
{
    struct error why = {{0}};
    struct write_item *leader = &run->items[first];
    struct write_group group = {.run = run, .collection = open_target(run, leader, &why)};
    if (group.collection == NULL) {
        refuse(run, leader, slice_of(why.text));
        return STORE_OK;
    }
    group.items = arena_alloc(run->commit->client->scratch, (run->n - first) * sizeof(struct write_item *));
    for (size_t i = first; i < run->n; i++) {
        struct write_item *item = &run->items[i];
        if (!item->done && item->wave == leader->wave &&
            slice_equal(item->write->collection, leader->write->collection))
            group.items[group.n++] = item;
    }
    enum store_result result = apply_group(&group, err);
    mongoc_collection_destroy(group.collection);
    return result;
}

enum store_result commit_apply_writes(struct commit *commit, struct error *err)
{
    struct write_run run = {.commit = commit};
    enum store_result result = STORE_OK;
    open_run(&run);
    for (size_t wave = 0; wave < run.waves; wave++)
        for (size_t i = 0; i < run.n && result == STORE_OK; i++)
            if (!run.items[i].done && run.items[i].wave == wave)
                result = apply_collection(&run, i, err);
    for (size_t i = 0; i < commit->n && result == STORE_OK; i++)
        if (has_open_writes(&commit->items[i]))
            commit->items[i].delivery->effects_applied = true;
    return result;
}
