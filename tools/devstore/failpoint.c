/* configureFailPoint: failCommand, as MongoDB's own driver tests use it. */
#include "commands.h"

#include <poll.h>
#include <string.h>

struct failpoint {
    pthread_mutex_t lock;
    int64_t skip, times;   /* times: -1 always, 0 off */
    struct buffer content; /* the document `data` */
};

struct failpoint *failpoint_open(void)
{
    struct failpoint *f = bson_malloc0(sizeof *f);
    pthread_mutex_init(&f->lock, NULL);
    return f;
}

void failpoint_close(struct failpoint *f)
{
    buffer_free(&f->content);
    bson_free(f);
}

bool command_configure_failpoint(struct request *request)
{
    struct failpoint *f = request->server->failpoint;
    struct failure *error = &request->error;
    const char *name = value_text(argument(request, "configureFailPoint"));
    value data = argument(request, "data"), mode = argument(request, "mode");
    const char *text = value_text(mode) ? value_text(mode) : "";
    int64_t skip = 0, times = strcmp(text, "off") == 0 ? 0 : -1;
    if (!name || strcmp(name, "failCommand") != 0)
        return fail(error, 191, "failpoint '%s' not found", name ? name : "");
    if (times && strcmp(text, "alwaysOn") != 0 && !value_to_int64(document_get(mode, "times"), &times) &&
        !value_to_int64(document_get(mode, "skip"), &skip))
        return fail(error, 2, "unknown fail point mode: use 'off', 'alwaysOn', {times: n} or {skip: n}");
    if (!check_known(data, "data",
                     "failCommands errorCode closeConnection blockConnection blockTimeMS "
                     "writeConcernError errorLabels appName namespace",
                     error))
        return false;
    if (times != 0 && document_get(data, "failCommands").value_type != BSON_TYPE_ARRAY)
        return fail(error, 2, "failCommand needs data.failCommands");
    pthread_mutex_lock(&f->lock);
    f->content.size = 0;
    buffer_append_document(&f->content, data);
    f->skip = skip;
    f->times = times;
    pthread_mutex_unlock(&f->lock);
    return true;
}

/* With the lock held: whether this command is meant, counting it if so. */
static bool is_meant(struct failpoint *f, const struct request *request, value data)
{
    const char *application = value_text(document_get(data, "appName"));
    const char *ns = value_text(document_get(data, "namespace")), *dot = ns ? strchr(ns, '.') : NULL;
    const char *collection = value_text(argument(request, request->name));
    bool named = false;
    for (struct fields it = fields_of(document_get(data, "failCommands")); fields_next(&it);)
        named = named || (value_text(it.v) && strcmp(value_text(it.v), request->name) == 0);
    if (f->times == 0 || !named || (application && strcmp(application, request->client->application) != 0) ||
        (ns && (!dot || !collection || strcmp(dot + 1, collection) != 0)))
        return false;
    if (f->skip > 0)
        return f->skip-- < 0;
    f->times -= f->times > 0;
    return true;
}

enum failpoint_action failpoint_apply(struct request *request, bson_t *after)
{
    struct failpoint *f = request->server->failpoint;
    int64_t block = 0, code = 0;
    bool closes = false;
    pthread_mutex_lock(&f->lock);
    value data = f->content.size ? document_view(f->content.data) : (value){0};
    if (strcmp(request->name, "configureFailPoint") != 0 && is_meant(f, request, data)) {
        value concern = document_get(data, "writeConcernError");
        closes = value_truth(document_get(data, "closeConnection"));
        if (value_truth(document_get(data, "blockConnection")))
            value_to_int64(document_get(data, "blockTimeMS"), &block);
        value_to_int64(document_get(data, "errorCode"), &code);
        if (code || concern.value_type)
            append_value(after, "errorLabels", document_get(data, "errorLabels"));
        if (!code)
            append_value(after, "writeConcernError", concern);
    }
    pthread_mutex_unlock(&f->lock);
    if (block > 0) /* a stop ends the wait */
        poll(&(struct pollfd){.fd = request->server->stop_fd, .events = POLLIN}, 1, (int)(block & 0x7fffffff));
    if (closes)
        return FAILPOINT_CLOSE;
    if (code)
        fail(&request->error, (int)code, "Failing command via 'failCommand' failpoint");
    return code ? FAILPOINT_ERROR : FAILPOINT_NONE;
}
