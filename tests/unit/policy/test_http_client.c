/* The HTTP client against a small server of our own on the loopback. */
#include "../check.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "policy/http_client.h"

struct server {
    int listener;
    uint16_t port;
    pthread_t thread;
    char seen[4096]; /* the last request; read after its answer */
};

struct fixture {
    struct server server;
    struct http_client *client;
    struct arena *arena;
};

static void answer(int fd, const char *text)
{
    size_t len = strlen(text);
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        text += n;
        len -= (size_t)n;
    }
}

static void answer_large(int fd)
{
    static char block[65537];
    memset(block, 'x', sizeof block - 1);
    answer(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2097152\r\n\r\n");
    for (int i = 0; i < 32; i++)
        answer(fd, block);
}

/* Answers by the path; one request a connection. A request without an answer waits until the client goes away. */
static void serve(struct server *server, int fd)
{
    size_t len = 0;
    while (strstr(server->seen, "\r\n\r\n") == NULL && len < sizeof server->seen - 1) {
        ssize_t n = recv(fd, server->seen + len, sizeof server->seen - 1 - len, 0);
        if (n <= 0)
            return;
        len += (size_t)n;
        server->seen[len] = '\0';
    }
    if (strstr(server->seen, " /redirect ") != NULL)
        answer(fd, "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    else if (strstr(server->seen, " /large ") != NULL)
        answer_large(fd);
    else if (strstr(server->seen, " /silent ") != NULL)
        (void)!read(fd, (char[1]){0}, 1);
    else
        answer(fd, "HTTP/1.1 201 Created\r\nX-One: 1\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
}

static void *server_run(void *arg)
{
    struct server *server = arg;
    for (;;) {
        struct sockaddr_storage peer;
        socklen_t size = sizeof peer;
        int fd = accept(server->listener, (struct sockaddr *)&peer, &size);
        if (fd < 0)
            return NULL; /* shut down by tear_down */
        memset(server->seen, 0, sizeof server->seen);
        serve(server, fd);
        close(fd);
    }
}

static int set_up(void **state)
{
    struct fixture *f = memory_alloc(sizeof *f);
    struct error err;
    struct address address = {.host = "127.0.0.1"};
    int listener = address_listen(&address, 16, &f->server.port, &err);
    if (listener < 0)
        return -1;
    f->server.listener = listener;
    int flags = fcntl(listener, F_GETFL); /* non-blocking so far; the server's thread may block */
    if (flags < 0 || fcntl(listener, F_SETFL, flags & ~O_NONBLOCK) != 0 ||
        pthread_create(&f->server.thread, NULL, server_run, &f->server) != 0)
        return -1;
    f->client = http_client_new(&err);
    f->arena = arena_new();
    *state = f;
    return f->client == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    http_client_free(f->client); /* closes its connections, so the server's thread comes back */
    shutdown(f->server.listener, SHUT_RDWR);
    pthread_join(f->server.thread, NULL);
    close(f->server.listener);
    arena_free(f->arena);
    free(f);
    return 0;
}

static bool ask(struct fixture *f, const char *path, struct policy_http_request *request,
                struct policy_http_response *response, struct error *err)
{
    request->url = arena_printf(f->arena, "http://127.0.0.1:%d%s", f->server.port, path).base;
    if (request->method == NULL)
        request->method = "GET";
    if (request->timeout_ms == 0)
        request->timeout_ms = 5000;
    return http_client_perform(f->client, request, f->arena, response, err);
}

static void an_exchange_goes_both_ways(void **state)
{
    struct fixture *f = *state;
    const char *headers[] = {"X-Key: k", "Content-Type: text/plain"};
    struct policy_http_request request = {
        .method = "PUT", .headers = headers, .n_headers = 2, .body = SLICE_LITERAL("ping")};
    struct policy_http_response response;
    struct error err;
    assert_true(ask(f, "/ok", &request, &response, &err));
    assert_int_equal(response.status, 201);
    assert_true(slice_is(response.body, "hello"));
    assert_non_null(strstr(response.headers.base, "X-One: 1\r\n"));
    assert_memory_equal(f->server.seen, "PUT /ok HTTP/1.1\r\n", 18);
    assert_non_null(strstr(f->server.seen, "\r\nX-Key: k\r\n"));
    assert_non_null(strstr(f->server.seen, "\r\nContent-Length: 4\r\n"));
    /* nothing of it is left in the next request */
    struct policy_http_request plain = {0};
    assert_true(ask(f, "/ok", &plain, &response, &err));
    assert_memory_equal(f->server.seen, "GET /ok HTTP/1.1\r\n", 18);
    assert_null(strstr(f->server.seen, "X-Key"));
    assert_null(strstr(f->server.seen, "Content-Length"));
}

static void redirects_are_not_followed(void **state)
{
    struct fixture *f = *state;
    struct policy_http_request request = {0};
    struct policy_http_response response;
    struct error err;
    assert_true(ask(f, "/redirect", &request, &response, &err));
    assert_int_equal(response.status, 302);
}

static void a_response_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct policy_http_request request = {0};
    struct policy_http_response response;
    struct error err;
    assert_false(ask(f, "/large", &request, &response, &err));
    assert_non_null(strstr(err.text, "larger than 1048576 bytes"));
}

static void the_timeout_is_kept(void **state)
{
    struct fixture *f = *state;
    struct policy_http_request request = {.timeout_ms = 100};
    struct policy_http_response response;
    struct error err;
    mono_time from = clock_mono();
    assert_false(ask(f, "/silent", &request, &response, &err));
    assert_in_range(mono_elapsed_ms(from, clock_mono()), 90, 4000);
    assert_true(err.text[0] != '\0');
}

static void other_protocols_are_refused(void **state)
{
    struct fixture *f = *state;
    struct policy_http_request request = {.method = "GET", .url = "file:///etc/hostname", .timeout_ms = 1000};
    struct policy_http_response response;
    struct error err;
    assert_false(http_client_perform(f->client, &request, f->arena, &response, &err));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(an_exchange_goes_both_ways), TEST(redirects_are_not_followed),  TEST(a_response_is_bounded),
        TEST(the_timeout_is_kept),        TEST(other_protocols_are_refused),
    };
    log_open("test", LOG_ERROR + 1, LOG_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
