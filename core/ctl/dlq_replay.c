/* waybillctl dlq replay: dead letters become events again.
 *
 * Store first, queue second: a letter whose event did not reach the queue is finished by replaying it again, or by the
 * worker's reconciler. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "ctl/backends.h"
#include "ctl/dlq.h"
#include "ctl/json_read.h"
#include "ctl/output.h"

#define PAGE_LETTERS    100
#define DEFAULT_RATE    100.0
#define WAIT_AT_MOST_MS 60000

#define AT(member) offsetof(struct dlq_replay_options, member)
const struct flag dlq_replay_flags[] = {
    {"all", FLAG_SWITCH, AT(all), NULL, "every unreviewed letter, or those that --source and --reason leave"},
    {"source", FLAG_TEXT, AT(source), "NAME", "with --all: of this source only"},
    {"reason", FLAG_TEXT, AT(reason), "WORD", "with --all: with this reason only"},
    {"discarded", FLAG_SWITCH, AT(discarded), NULL, "with KEYs: also what somebody has discarded"},
    {"dry-run", FLAG_SWITCH, AT(dry_run), NULL, "say how many it would be, and do nothing"},
    {"rate", FLAG_TEXT, AT(rate), "N", "at most so many a second (default 100; 0: as fast as it goes)"},
    {"json", FLAG_SWITCH, AT(json), NULL, "one JSON object a letter, one a line"},
    {0},
};
#undef AT

const char dlq_replay_details[] =
    "The event is queued for its next attempt, its failures forgotten; what already has an outcome is refused, and so\n"
    "is what somebody has discarded, unless --discarded is given.\n"
    "Exit code 1 when a letter was refused, 4 when one was not found; the others are replayed all the same.\n"
    "\n"
    "  waybillctl dlq replay demo/evt_01\n"
    "  waybillctl dlq replay --all --reason retries_exhausted --dry-run\n";

struct replay {
    struct ctl *ctl;
    struct backends backends;
    struct arena *arena; /* of the letter at hand */
    struct slice who;
    double rate;
    mono_time started;
    size_t n_done, n_refused;
    bool discarded_too, json;
};

struct slice dlq_who(struct arena *arena)
{
    char host[256] = "";
    const char *user = getenv("USER") != NULL ? getenv("USER") : getenv("LOGNAME");
    if (gethostname(host, sizeof host - 1) != 0)
        host[0] = '\0';
    if (user == NULL || *user == '\0')
        return arena_printf(arena, "uid %u@%s", (unsigned)getuid(), host);
    return arena_printf(arena, "%s@%s", user, host);
}

void dlq_print_done(const char *key, const char *result, const char *error, bool json)
{
    if (!json) {
        if (error == NULL)
            printf("%s  %s\n", key, result);
        return;
    }
    struct buf line = {0};
    struct json_writer w = json_writer(&line);
    json_object_open(&w);
    json_member_text(&w, "key", key);
    json_member_text(&w, "result", result);
    json_member_text(&w, "error", error);
    json_object_close(&w);
    output_line(&line);
    buf_free(&line);
}

/* Keeps to the rate: the n-th letter is not replayed before n/rate seconds have passed. */
static void pace(const struct replay *r)
{
    size_t n = r->n_done + r->n_refused;
    if (r->rate <= 0)
        return;
    int64_t due_ms = (int64_t)((double)n * 1000 / r->rate);
    int64_t wait_ms = due_ms - mono_elapsed_ms(r->started, clock_mono());
    if (wait_ms > 0)
        clock_sleep_ms(wait_ms < WAIT_AT_MOST_MS ? wait_ms : WAIT_AT_MOST_MS);
}

static enum ctl_exit replay_one(struct replay *r, const char *key)
{
    struct event event;
    struct error err;
    pace(r);
    enum store_result result =
        store_dead_replay(r->backends.client, slice_of(key), r->who, r->discarded_too, r->arena, &event, &err);
    enum ctl_exit exit_code = backends_store_code(result, key, &err);
    if (exit_code == CTL_OK)
        exit_code = backends_queue_code(queue_requeue(r->backends.queue, &event, &err), &err);
    arena_reset(r->arena);
    if (exit_code == CTL_OK) {
        r->n_done++;
        dlq_print_done(key, "replayed", NULL, r->json);
    } else {
        r->n_refused++;
        ctl_complain(err.text);
        dlq_print_done(key, "failed", err.text, r->json);
    }
    return exit_code;
}

static enum ctl_exit replay_keys(struct replay *r, int n, char **keys)
{
    enum ctl_exit worst = CTL_OK;
    for (int i = 0; i < n; i++) {
        enum ctl_exit one = replay_one(r, keys[i]);
        if (one == CTL_UNREACHABLE)
            return one;
        worst = one > worst ? one : worst;
    }
    return worst;
}

/* Adds the page's keys, a NUL behind each. Returns how many. */
static size_t add_keys(const struct json_value *page, struct buf *keys)
{
    size_t n = 0;
    for (const struct json_value *letter = page->first; letter != NULL; letter = letter->next, n++) {
        buf_add_slice(keys, json_text(json_get(letter, "key")));
        buf_add_char(keys, '\0');
    }
    return n;
}

/* The last of the keys; "" when there are none. In the arena of the letter at hand. */
static const char *last_key(struct replay *r, const struct buf *keys)
{
    if (keys->len == 0)
        return "";
    size_t end = keys->len - 1, start = end;
    while (start > 0 && keys->data[start - 1] != '\0')
        start--;
    return arena_copy(r->arena, keys->data + start, end - start).base;
}

/* All keys are read before the first replay: an event that dies again at once is not replayed again and again. In
 * pages by key, as deaths meanwhile would shift pages by time: a letter would come twice. */
static enum ctl_exit list_keys(struct replay *r, struct store_dead_filter *filter, struct buf *keys)
{
    enum ctl_exit exit_code = CTL_OK;
    for (size_t n = PAGE_LETTERS; n == PAGE_LETTERS && exit_code == CTL_OK;) {
        struct buf text = {0};
        struct error err;
        filter->after = last_key(r, keys);
        exit_code =
            backends_store_exit(r->ctl, store_dead_list(r->backends.client, filter, &text, &err), "dead letters", &err);
        const struct json_value *page = exit_code == CTL_OK ? json_read(buf_slice(&text), r->arena, &err) : NULL;
        n = page == NULL ? 0 : add_keys(page, keys);
        arena_reset(r->arena);
        buf_free(&text);
    }
    return exit_code;
}

static enum ctl_exit replay_all(struct replay *r, struct store_dead_filter *filter)
{
    struct buf keys = {0};
    enum ctl_exit worst = list_keys(r, filter, &keys);
    for (size_t at = 0; at < keys.len && worst != CTL_UNREACHABLE; at += strlen(keys.data + at) + 1) {
        enum ctl_exit one = replay_one(r, keys.data + at);
        worst = one > worst || one == CTL_UNREACHABLE ? one : worst;
    }
    buf_free(&keys);
    return worst;
}

static enum ctl_exit count_only(struct replay *r, const struct store_dead_filter *filter)
{
    int64_t count;
    struct error err;
    enum ctl_exit exit_code =
        backends_store_exit(r->ctl, store_dead_count(r->backends.client, filter, &count, &err), "dead letters", &err);
    if (exit_code == CTL_OK && r->json)
        printf("{\"would_replay\":%lld}\n", (long long)count);
    else if (exit_code == CTL_OK)
        printf("%lld dead letter%s would be replayed.\n", (long long)count, count == 1 ? "" : "s");
    return exit_code;
}

static enum ctl_exit replay(struct replay *r, const struct dlq_replay_options *o, int argc, char **argv)
{
    struct store_dead_filter filter = {
        .status = "unreviewed", .source = o->source, .reason = o->reason, .limit = PAGE_LETTERS};
    if (o->dry_run)
        return count_only(r, &filter);
    enum ctl_exit exit_code = o->all ? replay_all(r, &filter) : replay_keys(r, argc, argv);
    if (!r->json && (o->all || argc > 1))
        printf("%zu replayed, %zu failed.\n", r->n_done, r->n_refused);
    if (!r->json && r->n_done > 0)
        printf("See what becomes of them: waybillctl events show KEY\n");
    return exit_code;
}

static enum ctl_exit check_options(const struct ctl *ctl, const struct dlq_replay_options *o, int argc, char **argv,
                                   double *rate)
{
    if (o->all == (argc > 0))
        return ctl_fail(ctl, CTL_USAGE, "give the KEYs to replay, or --all");
    if (!o->all && (o->source != NULL || o->reason != NULL || o->dry_run))
        return ctl_fail(ctl, CTL_USAGE, "--source, --reason and --dry-run go with --all");
    if (o->all && o->discarded)
        return ctl_fail(ctl, CTL_USAGE, "--discarded goes with KEYs: --all is about unreviewed letters");
    for (int i = 0; i < argc; i++)
        if (backends_check_key(ctl, argv[i]) != CTL_OK)
            return CTL_USAGE;
    char *end = NULL;
    *rate = o->rate != NULL ? strtod(o->rate, &end) : DEFAULT_RATE;
    if (o->rate != NULL && (end == o->rate || *end != '\0' || !isfinite(*rate) || *rate < 0))
        return ctl_fail(ctl, CTL_USAGE, "--rate: \"%s\" is not a number of letters a second", o->rate);
    return CTL_OK;
}

enum ctl_exit dlq_run_replay(struct ctl *ctl, const void *options, int argc, char **argv)
{
    const struct dlq_replay_options *o = options;
    struct replay r = {.ctl = ctl,
                       .who = dlq_who(ctl->arena),
                       .started = clock_mono(),
                       .discarded_too = o->discarded,
                       .json = o->json};
    enum ctl_exit exit_code = check_options(ctl, o, argc, argv, &r.rate);
    if (exit_code == CTL_OK)
        exit_code = backends_open_store(ctl, &r.backends);
    if (exit_code == CTL_OK)
        exit_code = backends_open_queue(ctl, &r.backends);
    if (exit_code == CTL_OK) {
        r.arena = arena_new();
        exit_code = replay(&r, o, argc, argv);
        arena_free(r.arena);
    }
    backends_close(&r.backends);
    return exit_code;
}
