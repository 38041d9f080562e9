/* The admin listener over real sockets: each endpoint, what else is asked, a port in use. */
#include "../check.h"

#include <stdio.h>

#include <arpa/inet.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "admin/admin.h"
#include "admin/probe.h"
#include "base/address.h"
#include "base/clock.h"

struct fake {
    bool is_ready, may_reload;
    sem_t *begun, *may_end; /* NULL: a reload takes no time */
    int reloads;
};

static bool on_ready(void *arg, struct buf *out)
{
    buf_add_text(out, "queue: fine\n");
    return ((struct fake *)arg)->is_ready;
}

static void on_status(void *arg, struct buf *out)
{
    (void)arg;
    buf_add_text(out, "{\"version\":\"1\"}");
}

static bool on_reload(void *arg, struct buf *out, struct error *err)
{
    struct fake *fake = arg;
    fake->reloads++;
    if (fake->begun != NULL) {
        sem_post(fake->begun);
        sem_wait(fake->may_end);
    }
    if (!fake->may_reload) {
        error_set(err, "validate.lua:3: \"oops\"");
        return false;
    }
    buf_add_text(out, "{\"generation\":2}");
    return true;
}

struct fixture {
    struct fake fake;
    struct metrics *metrics;
    struct admin *admin;
    char answer[8192];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct error err;
    f->fake = (struct fake){.is_ready = true, .may_reload = true};
    f->metrics = metrics_new();
    metric_add(metrics_counter(f->metrics, "waybill_test_total", NULL, "A test."), 7);
    struct admin_service service = {
        .arg = &f->fake, .ready = on_ready, .status = on_status, .reload = on_reload, .metrics = f->metrics};
    f->admin = admin_start("127.0.0.1:0", &service, &err);
    *state = f;
    return f->admin == NULL;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    admin_stop(f->admin);
    metrics_free(f->metrics);
    free(f);
    return 0;
}

static int send_request(struct fixture *f, const char *method, const char *path)
{
    struct address address;
    struct error err;
    assert_true(address_parse(admin_address(f->admin), &address, &err));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(address.port)};
    inet_pton(AF_INET, address.host, &to.sin_addr);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    char request[256];
    int len = snprintf(request, sizeof request,
                       "%s %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", method, path);
    assert_int_equal(write(fd, request, (size_t)len), len);
    return fd;
}

static const char *read_answer(struct fixture *f, int fd)
{
    size_t got = 0;
    ssize_t n;
    while ((n = read(fd, f->answer + got, sizeof f->answer - 1 - got)) > 0)
        got += (size_t)n;
    f->answer[got] = '\0';
    close(fd);
    return f->answer;
}

/* The whole answer to one request. */
static const char *ask(struct fixture *f, const char *method, const char *path)
{
    return read_answer(f, send_request(f, method, path));
}

static void assert_answer(struct fixture *f, const char *method, const char *path, int status, const char *part)
{
    char start[32];
    const char *answer = ask(f, method, path);
    snprintf(start, sizeof start, "HTTP/1.1 %d ", status);
    if (strncmp(answer, start, strlen(start)) != 0 || strstr(answer, part) == NULL)
        fail_msg("%s %s: expected %d with '%s', got:\n%s", method, path, status, part, answer);
}

static void endpoints(void **state)
{
    struct fixture *f = *state;
    assert_answer(f, "GET", "/livez", 200, "\r\n\r\nok");
    assert_answer(f, "GET", "/readyz", 200, "queue: fine\n");
    assert_answer(f, "GET", "/status", 200, "{\"version\":\"1\"}");
    assert_answer(f, "GET", "/metrics", 200, "waybill_test_total 7\n");
    assert_answer(f, "GET", "/metrics", 200, "text/plain; version=0.0.4");
}

static void not_ready_is_503(void **state)
{
    struct fixture *f = *state;
    f->fake.is_ready = false;
    assert_answer(f, "GET", "/readyz", 503, "queue: fine\n");
    assert_answer(f, "GET", "/livez", 200, "ok");
}

static void head_has_no_body(void **state)
{
    struct fixture *f = *state;
    assert_answer(f, "HEAD", "/readyz", 200, "Content-Length: 12");
    assert_null(strstr(f->answer, "queue: fine"));
}

static void reload(void **state)
{
    struct fixture *f = *state;
    assert_answer(f, "POST", "/reload", 200, "{\"generation\":2}");
    f->fake.may_reload = false;
    assert_answer(f, "POST", "/reload", 409, "{\"error\":\"validate.lua:3: \\\"oops\\\"\"}");
    assert_int_equal(f->fake.reloads, 2);
}

/* What an operator asks while scripts load must not look as if the service were dead. */
static void a_long_reload_holds_up_nobody(void **state)
{
    struct fixture *f = *state;
    sem_t begun, may_end;
    sem_init(&begun, 0, 0);
    sem_init(&may_end, 0, 0);
    f->fake.begun = &begun;
    f->fake.may_end = &may_end;
    int fd = send_request(f, "POST", "/reload");
    sem_wait(&begun);
    struct error err = {""};
    static const char *const paths[] = {"/livez", "/readyz", "/metrics", "/status"};
    bool answered = true;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        answered = answered && probe_ask(admin_address(f->admin), paths[i], 10000, &err);
    sem_post(&may_end);
    assert_string_equal(err.text, "");
    assert_true(answered);
    assert_non_null(strstr(read_answer(f, fd), "{\"generation\":2}"));
    sem_destroy(&begun);
    sem_destroy(&may_end);
}

static void anything_else(void **state)
{
    struct fixture *f = *state;
    assert_answer(f, "GET", "/", 404, "not found");
    assert_answer(f, "GET", "/metrics/", 404, "not found");
    assert_answer(f, "POST", "/livez", 405, "Allow: GET, HEAD");
    assert_answer(f, "GET", "/reload", 405, "Allow: POST");
    assert_answer(f, "DELETE", "/status", 405, "Allow: GET, HEAD");
    assert_int_equal(f->fake.reloads, 0);
}

static void a_port_in_use_is_said(void **state)
{
    struct fixture *f = *state;
    struct error err;
    struct admin_service service = {.ready = on_ready, .status = on_status, .metrics = f->metrics};
    assert_null(admin_start(admin_address(f->admin), &service, &err));
    assert_non_null(strstr(err.text, "in use"));
    assert_non_null(strstr(err.text, admin_address(f->admin)));
    assert_null(admin_start("nonsense", &service, &err));
    assert_non_null(strstr(err.text, "nonsense"));
}

static void a_probe_hears_how_the_service_is(void **state)
{
    struct fixture *f = *state;
    struct error err = {""};
    assert_true(probe_ask(admin_address(f->admin), "/readyz", 2000, &err));
    f->fake.is_ready = false;
    assert_false(probe_ask(admin_address(f->admin), "/readyz", 2000, &err));
    assert_string_equal(err.text, "503: queue: fine\n");
    assert_true(probe_ask(admin_address(f->admin), "/livez", 2000, &err));
}

static void a_probe_asks_this_machine_for_all_interfaces(void **state)
{
    struct fixture *f = *state;
    struct error err = {""};
    char listen[32];
    snprintf(listen, sizeof listen, "0.0.0.0%s", strchr(admin_address(f->admin), ':'));
    assert_true(probe_ask(listen, "/livez", 2000, &err));
    assert_true(probe_ask(strchr(listen, ':'), "/livez", 2000, &err));
}

/* A listener that takes connections, as the kernel does for a service that hangs, and says only what is given. */
static void assert_probe_fails(const char *says, int64_t timeout_ms, const char *part)
{
    struct address address = {.host = "127.0.0.1"};
    struct error err = {""};
    char listen[32];
    uint16_t port;
    int fd = address_listen(&address, 1, &port, &err);
    assert_true(fd >= 0);
    snprintf(listen, sizeof listen, "127.0.0.1:%u", (unsigned)port);
    pid_t child = fork();
    if (child == 0) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        int peer = poll(&wait, 1, 10000) == 1 ? accept(fd, NULL, NULL) : -1;
        char request[256];
        bool ok = read(peer, request, sizeof request) > 0 && write(peer, says, strlen(says)) == (ssize_t)strlen(says);
        if (says[0] == '\0')
            ok = read(peer, request, 1) == 0; /* until the other side gives up */
        _exit(ok ? 0 : 1);
    }
    mono_time from = clock_mono();
    assert_false(probe_ask(listen, "/livez", timeout_ms, &err));
    assert_true(mono_elapsed_ms(from, clock_mono()) < timeout_ms + 2000);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(fd);
    assert_non_null(strstr(err.text, part));
}

static void a_probe_is_not_taken_in(void **state)
{
    (void)state;
    assert_probe_fails("", 100, "no answer in time");
    assert_probe_fails("SSH-2.0-x\r\n", 5000, "no admin listener");
    assert_probe_fails("HTTP/1.1 2000 OK\r\n\r\n", 5000, "no admin listener");
    assert_probe_fails("HTTP/1.1 404 Not Found\r\n\r\nnothing\n", 5000, "404: nothing");
}

static void a_probe_needs_somebody(void **state)
{
    struct fixture *f = *state;
    struct error err = {""};
    char listen[64];
    snprintf(listen, sizeof listen, "%s", admin_address(f->admin));
    admin_stop(f->admin);
    f->admin = NULL;
    assert_false(probe_ask(listen, "/livez", 2000, &err));
    assert_non_null(strstr(err.text, "refused"));
}

static void the_probe_flags(void **state)
{
    (void)state;
    char name[] = "waybill-ingest", ready[] = "--check-ready", live[] = "--check-live", other[] = "--threads=2";
    char *argv[] = {name, ready, other, NULL};
    int argc = 3;
    assert_string_equal(probe_take_flag(&argc, argv), "/readyz");
    assert_int_equal(argc, 2);
    assert_ptr_equal(argv[1], other);
    assert_null(argv[2]);
    assert_null(probe_take_flag(&argc, argv));
    assert_int_equal(argc, 2);
    argv[1] = live;
    assert_string_equal(probe_take_flag(&argc, argv), "/livez");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(endpoints, set_up, tear_down),
        cmocka_unit_test_setup_teardown(not_ready_is_503, set_up, tear_down),
        cmocka_unit_test_setup_teardown(head_has_no_body, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reload, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_long_reload_holds_up_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(anything_else, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_port_in_use_is_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_probe_hears_how_the_service_is, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_probe_asks_this_machine_for_all_interfaces, set_up, tear_down),
        cmocka_unit_test(a_probe_is_not_taken_in),
        cmocka_unit_test_setup_teardown(a_probe_needs_somebody, set_up, tear_down),
        cmocka_unit_test(the_probe_flags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
