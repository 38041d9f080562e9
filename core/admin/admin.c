#include "admin/admin.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/address.h"
#include "base/json.h"
#include "base/memory.h"

#define MAX_CONNECTIONS   32
#define CONNECTION_IDLE_S 10
#define LISTEN_BACKLOG    32

struct admin {
    struct admin_service service;
    char address[280];
    int fd;
    struct MHD_Daemon *daemon;
};

struct answer {
    unsigned status;
    const char *content_type;
    const char *allow; /* NULL: none */
    struct buf body;
};

static void answer_live(struct admin *admin, struct answer *answer)
{
    (void)admin;
    buf_add_text(&answer->body, "ok\n");
}

static void answer_ready(struct admin *admin, struct answer *answer)
{
    if (!admin->service.ready(admin->service.arg, &answer->body))
        answer->status = MHD_HTTP_SERVICE_UNAVAILABLE;
}

static void answer_metrics(struct admin *admin, struct answer *answer)
{
    if (admin->service.measure != NULL)
        admin->service.measure(admin->service.arg);
    answer->content_type = "text/plain; version=0.0.4; charset=utf-8";
    metrics_write(admin->service.metrics, &answer->body);
}

static void answer_status(struct admin *admin, struct answer *answer)
{
    answer->content_type = "application/json";
    admin->service.status(admin->service.arg, &answer->body);
}

static void answer_reload(struct admin *admin, struct answer *answer)
{
    struct error err = {""};
    answer->content_type = "application/json";
    if (admin->service.reload(admin->service.arg, &answer->body, &err))
        return;
    answer->status = MHD_HTTP_CONFLICT;
    buf_clear(&answer->body);
    struct json_writer w = json_writer(&answer->body);
    json_object_open(&w);
    json_member_text(&w, "error", err.text);
    json_object_close(&w);
    buf_add_char(&answer->body, '\n');
}

static const struct route {
    const char *path;
    bool is_post; /* else GET and HEAD */
    void (*respond)(struct admin *admin, struct answer *answer);
} routes[] = {{"/livez", false, answer_live},
              {"/readyz", false, answer_ready},
              {"/metrics", false, answer_metrics},
              {"/status", false, answer_status},
              {"/reload", true, answer_reload}};

static const struct route *find_route(const char *path)
{
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (strcmp(routes[i].path, path) == 0)
            return &routes[i];
    }
    return NULL;
}

static void respond(struct admin *admin, const char *path, const char *method, struct answer *answer)
{
    const struct route *route = find_route(path);
    bool is_get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    if (route == NULL) {
        answer->status = MHD_HTTP_NOT_FOUND;
        buf_add_text(&answer->body, "not found: /livez, /readyz, /metrics, /status and POST /reload are here\n");
    } else if (route->is_post ? strcmp(method, "POST") != 0 : !is_get) {
        answer->status = MHD_HTTP_METHOD_NOT_ALLOWED;
        answer->allow = route->is_post ? "POST" : "GET, HEAD";
        buf_printf(&answer->body, "method not allowed: %s\n", answer->allow);
    } else {
        route->respond(admin, answer);
    }
}

static enum MHD_Result send_answer(struct MHD_Connection *connection, struct answer *answer)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(answer->body.len, answer->body.data, MHD_RESPMEM_MUST_COPY);
    buf_free(&answer->body);
    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->content_type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (answer->allow != NULL)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, answer->allow);
    enum MHD_Result result = MHD_queue_response(connection, answer->status, response);
    MHD_destroy_response(response);
    return result;
}

/* The library calls this when the head is read, for each piece of a body, and at the end. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *path, const char *method,
                                  const char *version, const char *upload, size_t *upload_bytes, void **state)
{
    (void)version;
    (void)upload;
    static char head_seen;
    if (*state == NULL) {
        *state = &head_seen;
        return MHD_YES;
    }
    if (*upload_bytes > 0) { /* nothing here has a use for a body */
        *upload_bytes = 0;
        return MHD_YES;
    }
    struct answer answer = {.status = MHD_HTTP_OK, .content_type = "text/plain; charset=utf-8"};
    respond(arg, path, method, &answer);
    return send_answer(connection, &answer);
}

static bool open_socket(struct admin *admin, const char *listen, struct error *err)
{
    struct address address;
    if (!address_parse(listen, &address, err))
        return false;
    admin->fd = address_listen(&address, LISTEN_BACKLOG, &address.port, err);
    if (admin->fd < 0)
        return false;
    bool is_v6 = strchr(address.host, ':') != NULL;
    snprintf(admin->address, sizeof admin->address, is_v6 ? "[%s]:%u" : "%s:%u", address.host, address.port);
    return true;
}

struct admin *admin_start(const char *listen, const struct admin_service *service, struct error *err)
{
    struct admin *admin = memory_alloc(sizeof *admin);
    admin->service = *service;
    if (!open_socket(admin, listen, err)) {
        free(admin);
        return NULL;
    }
    /* A thread for each connection: a reload takes as long as its scripts, and health must be told meanwhile. */
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL | MHD_USE_ITC;
    admin->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, admin, MHD_OPTION_LISTEN_SOCKET, admin->fd,
                                     MHD_OPTION_CONNECTION_LIMIT, (unsigned)MAX_CONNECTIONS,
                                     MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)CONNECTION_IDLE_S, MHD_OPTION_END);
    if (admin->daemon != NULL)
        return admin;
    error_set(err, "cannot start the admin listener on %s", admin->address);
    close(admin->fd);
    free(admin);
    return NULL;
}

const char *admin_address(const struct admin *admin)
{
    return admin->address;
}

void admin_stop(struct admin *admin)
{
    if (admin == NULL)
        return;
    MHD_stop_daemon(admin->daemon); /* closes the socket */
    free(admin);
}
