/* configureFailPoint: failCommand, as MongoDB's own driver tests use it. */
#include "commands.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

struct failpoint {
    pthread_mutex_t lock;
    int64_t skip, times; /* times: -1 always, 0 off */
    struct arena arena;  /* holds data */
    struct value data;
};

struct failpoint *failpoint_open(void)
{
    struct failpoint *f = memset(allocate(sizeof *f), 0, sizeof *f);
    pthread_mutex_init(&f->lock, NULL);
    return f;
}

void failpoint_free(struct failpoint *f)
{
    arena_free(&f->arena);
    free(f);
}

static bool parse_mode(struct value mode, int64_t *skip, int64_t *times, struct error *error)
{
    const char *text = value_text(mode);
    *skip = 0;
    *times = -1;
    if (text && strcmp(text, "off") == 0)
        *times = 0;
    else if (!(text && strcmp(text, "alwaysOn") == 0) && !value_to_int64(document_get(mode, "times"), times) &&
             !value_to_int64(document_get(mode, "skip"), skip))
        return error_set(error, 2, "unknown fail point mode: use 'off', 'alwaysOn', {times: n} or {skip: n}");
    return true;
}

bool failpoint_configure(struct request *request, struct buffer *out, struct error *error)
{
    struct failpoint *f = request->server->failpoint;
    const char *name = value_text(argument(request, "configureFailPoint"));
    struct value data = argument(request, "data");
    int64_t skip, times;
    (void)out;
    if (!name || strcmp(name, "failCommand") != 0)
        return error_set(error, 191, "failpoint '%s' not found", name ? name : "");
    if (!parse_mode(argument(request, "mode"), &skip, &times, error) ||
        !check_known(data, "data", "failCommands errorCode closeConnection blockConnection blockTimeMS "
                     "writeConcernError errorLabels appName namespace", error))
        return false;
    if (times != 0 && document_get(data, "failCommands").type != BSON_TYPE_ARRAY)
        return error_set(error, 2, "failCommand needs data.failCommands");
    pthread_mutex_lock(&f->lock);
    arena_free(&f->arena);
    f->data = value_copy(&f->arena, data);
    f->skip = skip;
    f->times = times;
    pthread_mutex_unlock(&f->lock);
    return true;
}

/* With the lock held: whether this command is meant, counting it if so. */
static bool meant(struct failpoint *f, const struct request *request)
{
    const char *application = value_text(document_get(f->data, "appName"));
    const char *ns = value_text(document_get(f->data, "namespace"));
    struct field command;
    bool named = false;
    for (struct fields it = fields_of(document_get(f->data, "failCommands")); fields_next(&it, &command);)
        named = named || (value_text(command.value) && strcmp(value_text(command.value), request->name) == 0);
    const char *collection = value_text(document_get(request->body, request->name));
    if (f->times == 0 || !named || (application && strcmp(application, request->client->application) != 0) ||
        (ns && (!strchr(ns, '.') || !collection || strcmp(strchr(ns, '.') + 1, collection) != 0)))
        return false;
    if (f->skip > 0) {
        f->skip--;
        return false;
    }
    if (f->times > 0)
        f->times--;
    return true;
}

enum failpoint_action failpoint_apply(struct request *request, struct buffer *after, struct error *error)
{
    struct failpoint *f = request->server->failpoint;
    int64_t block = 0, code = 0;
    pthread_mutex_lock(&f->lock);
    bool hit = strcmp(request->name, "configureFailPoint") != 0 && meant(f, request);
    bool close = hit && value_truth(document_get(f->data, "closeConnection"));
    if (hit) {
        if (value_truth(document_get(f->data, "blockConnection")))
            value_to_int64(document_get(f->data, "blockTimeMS"), &block);
        value_to_int64(document_get(f->data, "errorCode"), &code);
        struct value labels = document_get(f->data, "errorLabels"), concern = document_get(f->data, "writeConcernError");
        if (code || concern.type)
            put_value(after, "errorLabels", labels);
        if (!code)
            put_value(after, "writeConcernError", concern);
    }
    pthread_mutex_unlock(&f->lock);
    if (block > 0) /* a stop ends the wait */
        poll(&(struct pollfd){.fd = request->server->stop_fd, .events = POLLIN}, 1, (int)(block & 0x7fffffff));
    if (close)
        return FAILPOINT_CLOSE;
    if (code)
        error_set(error, (int)code, "Failing command via 'failCommand' failpoint");
    return code ? FAILPOINT_ERROR : FAILPOINT_NONE;
}
