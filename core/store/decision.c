#include "decision.h"

static const char *const kind_names[] = {
    [DECISION_NONE] = "none",     [DECISION_SUCCEED] = "succeed", [DECISION_RETRY] = "retry",
    [DECISION_SNOOZE] = "snooze", [DECISION_DEAD] = "dead",
};

int64_t decision_delay_ms(const struct delivery *delivery)
{
    int64_t ms = delivery->retry.delay_ms;
    if (delivery->decision == DECISION_SNOOZE && ms <= 0)
        ms = delivery->outcome.retry_after_ms;
    return ms < 0 ? 0 : ms;
}

bool decision_has_effects(const struct delivery *delivery)
{
    if (delivery->decision == DECISION_SUCCEED)
        return delivery->outcome.n_writes > 0 || delivery->outcome.n_publishes > 0;
    return delivery->decision == DECISION_DEAD;
}

static bool is_poison(const struct delivery *delivery)
{
    return delivery->decision == DECISION_DEAD && slice_is(delivery->retry.reason, "poison");
}

static bool will_wait(const struct delivery *delivery)
{
    return delivery->decision == DECISION_RETRY || delivery->decision == DECISION_SNOOZE;
}

void put_attempt(bson_t *doc, const char *name, const struct delivery *delivery, struct slice worker)
{
    bson_t attempt;
    put_open(doc, name, &attempt);
    put_int(&attempt, "number", delivery->attempt);
    put_text(&attempt, "worker", worker);
    put_time(&attempt, "started_at", delivery->started_at);
    put_time(&attempt, "ended_at", delivery->ended_at);
    put_int(&attempt, "duration_ms", delivery->ended_at.ms - delivery->started_at.ms);
    put_word(&attempt, "outcome", is_poison(delivery) ? "poison" : outcome_name(delivery->outcome.kind));
    put_optional(&attempt, "error_kind", delivery->outcome.error_kind);
    put_cut(&attempt, "message", delivery->outcome.message, MESSAGE_MAX_BYTES);
    put_optional(&attempt, "script_hash", delivery->script_hash);
    put_bool(&attempt, "charged", delivery->decision == DECISION_RETRY || delivery->decision == DECISION_DEAD);
    if (will_wait(delivery))
        put_long(&attempt, "delay_ms", decision_delay_ms(delivery));
    put_word(&attempt, "decision", kind_names[delivery->decision]);
    put_close(doc, &attempt);
}

static void put_writes(bson_t *doc, const struct outcome *outcome)
{
    bson_t list, item;
    put_open_array(doc, "writes", &list);
    for (size_t i = 0; i < outcome->n_writes; i++) {
        struct index_name index;
        put_open(&list, index_name(&index, i), &item);
        put_text(&item, "collection", outcome->writes[i].collection);
        put_bytes(&item, "id", outcome->writes[i].id);
        put_bytes(&item, "update", outcome->writes[i].update);
        put_close(&list, &item);
    }
    put_close_array(doc, &list);
}

void put_publishes(bson_t *doc, const struct outcome *outcome)
{
    bson_t list, item;
    put_open_array(doc, "publishes", &list);
    for (size_t i = 0; i < outcome->n_publishes; i++) {
        struct index_name index;
        put_open(&list, index_name(&index, i), &item);
        put_text(&item, "topic", outcome->publishes[i].topic);
        put_bytes(&item, "payload", outcome->publishes[i].payload);
        put_close(&list, &item);
    }
    put_close_array(doc, &list);
}

void put_decision(bson_t *doc, const char *name, const struct delivery *delivery, struct slice worker)
{
    bson_t decision;
    put_open(doc, name, &decision);
    put_word(&decision, "kind", kind_names[delivery->decision]);
    put_optional(&decision, "reason", delivery->retry.reason);
    put_int(&decision, "failures", delivery->failures);
    put_long(&decision, "delay_ms", decision_delay_ms(delivery));
    put_attempt(&decision, "attempt", delivery, worker);
    if (delivery->decision == DECISION_SUCCEED) {
        put_bytes(&decision, "result", delivery->outcome.result);
        put_writes(&decision, &delivery->outcome);
        put_publishes(&decision, &delivery->outcome);
    }
    put_close(doc, &decision);
}

static enum decision_kind kind_of(struct slice name)
{
    for (enum decision_kind kind = DECISION_SUCCEED; kind <= DECISION_DEAD; kind++)
        if (slice_is(name, kind_names[kind]))
            return kind;
    return DECISION_NONE;
}

/* "poison" is no outcome of a script: such an attempt reads back as an error. */
static enum outcome_kind outcome_of(struct slice name)
{
    for (enum outcome_kind kind = OUTCOME_SUCCESS; kind <= OUTCOME_MEMORY_LIMIT; kind++)
        if (slice_is(name, outcome_name(kind)))
            return kind;
    return OUTCOME_ERROR;
}

/* Steps through an array of documents. */
static bool next_item(bson_iter_t *it, bson_t *item)
{
    uint32_t len = 0;
    const uint8_t *data = NULL;
    while (bson_iter_next(it)) {
        if (!BSON_ITER_HOLDS_DOCUMENT(it))
            continue;
        bson_iter_document(it, &len, &data);
        if (bson_init_static(item, data, len))
            return true;
    }
    return false;
}

static void read_writes(const bson_t *list, struct arena *arena, struct outcome *outcome)
{
    bson_iter_t it;
    bson_t item;
    outcome->n_writes = 0;
    outcome->writes = arena_alloc(arena, (bson_count_keys(list) + 1) * sizeof(*outcome->writes));
    if (!bson_iter_init(&it, list))
        return;
    while (next_item(&it, &item))
        outcome->writes[outcome->n_writes++] = (struct effect_write){
            .collection = slice_keep(arena, get_text(&item, "collection")),
            .id = slice_keep(arena, get_bytes(&item, "id")),
            .update = slice_keep(arena, get_bytes(&item, "update")),
        };
}

void read_publishes(const bson_t *list, struct arena *arena, struct outcome *outcome)
{
    bson_iter_t it;
    bson_t item;
    outcome->n_publishes = 0;
    outcome->publishes = arena_alloc(arena, (bson_count_keys(list) + 1) * sizeof(*outcome->publishes));
    if (!bson_iter_init(&it, list))
        return;
    while (next_item(&it, &item))
        outcome->publishes[outcome->n_publishes++] = (struct effect_publish){
            .topic = slice_keep(arena, get_text(&item, "topic")),
            .payload = slice_keep(arena, get_bytes(&item, "payload")),
        };
}

static void read_outcome(const bson_t *stored, struct arena *arena, struct outcome *outcome)
{
    bson_t list;
    *outcome = (struct outcome){
        .kind = outcome_of(get_text(stored, "attempt.outcome")),
        .result = slice_keep(arena, get_bytes(stored, "result")),
        .message = slice_keep(arena, get_text(stored, "attempt.message")),
        .error_kind = slice_keep(arena, get_text(stored, "attempt.error_kind")),
        .retry_after_ms = -1,
    };
    if (get_array(stored, "writes", &list))
        read_writes(&list, arena, outcome);
    if (get_array(stored, "publishes", &list))
        read_publishes(&list, arena, outcome);
}

bool read_decision(const bson_t *stored, struct arena *arena, struct delivery *delivery)
{
    enum decision_kind kind = kind_of(get_text(stored, "kind"));
    if (kind == DECISION_NONE)
        return false;
    delivery->decision = kind;
    delivery->retry = (struct retry_decision){
        .retry = kind == DECISION_RETRY,
        .delay_ms = get_int(stored, "delay_ms", 0),
        .reason = slice_keep(arena, get_text(stored, "reason")),
    };
    delivery->failures = (uint32_t)get_int(stored, "failures", 0);
    delivery->started_at = get_time(stored, "attempt.started_at");
    delivery->ended_at = get_time(stored, "attempt.ended_at");
    delivery->script_hash = slice_keep(arena, get_text(stored, "attempt.script_hash"));
    read_outcome(stored, arena, &delivery->outcome);
    return true;
}
