/* waybillctl dlq list, show and discard: reading and closing dead letters. Replay is dlq_replay.c. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "ctl/backends.h"
#include "ctl/dlq.h"
#include "ctl/output.h"
#include "ctl/record.h"

#define LIST_LIMIT      50
#define ERROR_MAX_BYTES 60

struct list_options {
    const char *status, *source, *reason;
    int64_t limit, skip;
    bool json;
};

#define AT(member) offsetof(struct list_options, member)
static const struct flag list_flags[] = {
    {"status", FLAG_TEXT, AT(status), "WORD", "unreviewed (default), replayed, discarded or all"},
    {"source", FLAG_TEXT, AT(source), "NAME", "of this source only"},
    {"reason", FLAG_TEXT, AT(reason), "WORD", "with this reason only"},
    {"limit", FLAG_COUNT, AT(limit), "N", "at most so many (default 50)"},
    {"skip", FLAG_COUNT, AT(skip), "N", "leave out so many of the newest"},
    {"json", FLAG_SWITCH, AT(json), NULL, "a JSON array"},
    {0},
};
#undef AT

bool dlq_status_is_known(const char *status)
{
    static const char *const known[] = {"unreviewed", "replayed", "discarded", "all"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(status, known[i]) == 0)
            return true;
    return false;
}

/* Cuts at a character, not inside one. */
static struct slice cut(struct arena *arena, struct slice text)
{
    if (text.len <= ERROR_MAX_BYTES)
        return text;
    size_t n = ERROR_MAX_BYTES;
    while (n > 0 && ((unsigned char)text.base[n] & 0xc0) == 0x80)
        n--;
    return arena_printf(arena, "%.*s…", (int)n, text.base);
}

static struct slice age_of(struct arena *arena, const struct json_value *time)
{
    int64_t ms;
    return json_time_ms(time, &ms) ? output_age(arena, ms, clock_wall().ms) : SLICE_LITERAL("?");
}

static size_t print_list(struct arena *arena, const struct json_value *list)
{
    struct output_table table = {.n_columns = 6};
    const struct slice heading[] = {SLICE_LITERAL("KEY"),      SLICE_LITERAL("DIED"),   SLICE_LITERAL("REASON"),
                                    SLICE_LITERAL("ATTEMPTS"), SLICE_LITERAL("REVIEW"), SLICE_LITERAL("ERROR")};
    output_table_add(&table, heading);
    for (const struct json_value *letter = list->first; letter != NULL; letter = letter->next) {
        const struct slice cells[] = {json_text(json_get(letter, "key")),
                                      age_of(arena, json_get(letter, "died_at")),
                                      json_text(json_get(letter, "reason")),
                                      json_text(json_get(letter, "attempt")),
                                      json_text(json_get(json_get(letter, "review"), "status")),
                                      cut(arena, json_text(json_get(json_get(letter, "error"), "message")))};
        output_table_add(&table, cells);
    }
    size_t n = table.n_rows - 1;
    if (n > 0)
        output_table_print(&table);
    output_table_free(&table);
    return n;
}

static void print_list_and_hints(struct arena *arena, const struct json_value *list,
                                 const struct store_dead_filter *filter, int64_t count)
{
    size_t n = print_list(arena, list);
    if (n == 0) {
        printf("No dead letters%s%s.\n", filter->status == NULL ? "" : " that are ",
               filter->status == NULL ? "" : filter->status);
        return;
    }
    printf("\n%zu of %lld.", n, (long long)count);
    if (filter->skip + (int64_t)n < count)
        printf(" More: --skip %lld.", (long long)(filter->skip + (int64_t)n));
    printf(" Look at one: waybillctl dlq show KEY; try it again: waybillctl dlq replay KEY\n");
}

static enum ctl_exit list_letters(struct ctl *ctl, struct backends *b, const struct store_dead_filter *filter,
                                  bool json)
{
    struct buf text = {0};
    struct error err;
    int64_t count = 0;
    enum store_result result = store_dead_list(b->client, filter, &text, &err);
    if (result == STORE_OK && !json)
        result = store_dead_count(b->client, filter, &count, &err);
    enum ctl_exit exit_code = backends_store_exit(ctl, result, "dead letters", &err);
    if (exit_code == CTL_OK) {
        const struct json_value *list = json ? NULL : json_read(buf_slice(&text), ctl->arena, &err);
        if (list != NULL)
            print_list_and_hints(ctl->arena, list, filter, count);
        else
            output_line(&text);
    }
    buf_free(&text);
    return exit_code;
}

static enum ctl_exit run_list(struct ctl *ctl, const void *options, int argc, char **argv)
{
    (void)argc, (void)argv;
    const struct list_options *o = options;
    const char *status = o->status != NULL ? o->status : "unreviewed";
    if (!dlq_status_is_known(status))
        return ctl_fail(ctl, CTL_USAGE, "--status is \"%s\"; it is unreviewed, replayed, discarded or all", status);
    const struct store_dead_filter filter = {.status = strcmp(status, "all") == 0 ? NULL : status,
                                             .source = o->source,
                                             .reason = o->reason,
                                             .skip = o->skip,
                                             .limit = o->limit > 0 ? o->limit : LIST_LIMIT};
    struct backends backends = {0};
    enum ctl_exit exit_code = backends_open_store(ctl, &backends);
    if (exit_code == CTL_OK)
        exit_code = list_letters(ctl, &backends, &filter, o->json);
    backends_close(&backends);
    return exit_code;
}

struct show_options {
    bool json;
};

static const struct flag show_flags[] = {
    {"json", FLAG_SWITCH, offsetof(struct show_options, json), NULL, "the whole document as JSON"},
    {0},
};

static void print_letter(struct arena *arena, const char *key, const struct json_value *letter)
{
    const struct json_value *review = json_get(letter, "review");
    struct slice status = json_text(json_get(review, "status"));
    printf("%s  %.*s\n", key, SLICE_ARG(status));
    record_line("reason", json_text(json_get(letter, "reason")));
    record_line("error", json_text(json_get(json_get(letter, "error"), "message")));
    record_time(arena, "died", json_get(letter, "died_at"));
    record_line("type", json_text(json_get(letter, "type")));
    record_time(arena, "received", json_get(letter, "first_received_at"));
    record_line("reviewed by", json_text(json_get(review, "by")));
    record_time(arena, "reviewed", json_get(review, "at"));
    record_line("note", json_text(json_get(review, "note")));
    record_attempts(arena, json_get(letter, "attempts"));
    record_body(letter);
    struct slice word = output_shell_word(arena, key);
    if (slice_is(status, "unreviewed"))
        printf("\nTry it again:  waybillctl dlq replay %.*s\nPut it aside:  waybillctl dlq discard %.*s --note WHY\n",
               SLICE_ARG(word), SLICE_ARG(word));
}

static enum ctl_exit run_show(struct ctl *ctl, const void *options, int argc, char **argv)
{
    (void)argc;
    const struct show_options *o = options;
    return record_show(ctl, argv[0], o->json, store_dead_show, print_letter);
}

struct discard_options {
    const char *note;
    bool json;
};

static const struct flag discard_flags[] = {
    {"note", FLAG_TEXT, offsetof(struct discard_options, note), "TEXT", "why; kept with the letter"},
    {"json", FLAG_SWITCH, offsetof(struct discard_options, json), NULL, "print JSON"},
    {0},
};

/* Store first, queue second, as everywhere: repeated after a crash in between, it ends the same. */
static enum ctl_exit discard(struct ctl *ctl, struct backends *b, const char *key, const char *note)
{
    struct error err;
    enum ctl_exit exit_code = backends_store_exit(
        ctl, store_dead_discard(b->client, slice_of(key), dlq_who(ctl->arena), slice_of(note), &err), key, &err);
    if (exit_code == CTL_OK)
        exit_code = backends_queue_exit(ctl, queue_forget_dead(b->queue, slice_of(key), &err), &err);
    return exit_code;
}

static enum ctl_exit run_discard(struct ctl *ctl, const void *options, int argc, char **argv)
{
    (void)argc;
    const struct discard_options *o = options;
    struct backends backends = {0};
    if (o->note == NULL || *o->note == '\0')
        return ctl_fail(ctl, CTL_USAGE, "--note is missing: say why the letter is put aside");
    enum ctl_exit exit_code = backends_check_key(ctl, argv[0]);
    if (exit_code == CTL_OK)
        exit_code = backends_open_store(ctl, &backends);
    if (exit_code == CTL_OK)
        exit_code = backends_open_queue(ctl, &backends);
    if (exit_code == CTL_OK)
        exit_code = discard(ctl, &backends, argv[0], o->note);
    if (exit_code == CTL_OK)
        dlq_print_done(argv[0], "discarded", NULL, o->json);
    backends_close(&backends);
    return exit_code;
}

const struct command dlq_commands[] = {
    {"dlq list", "", "dead letters, the newest first", NULL, 0, 0, list_flags, sizeof(struct list_options), run_list},
    {"dlq show", "KEY", "one dead letter: why it died, its attempts, its body", NULL, 1, 1, show_flags,
     sizeof(struct show_options), run_show},
    {"dlq replay", "[KEY …]", "process dead letters again", dlq_replay_details, 0, 10000, dlq_replay_flags,
     sizeof(struct dlq_replay_options), dlq_run_replay},
    {"dlq discard", "KEY", "put a dead letter aside for good, with a note", NULL, 1, 1, discard_flags,
     sizeof(struct discard_options), run_discard},
    {0},
};
