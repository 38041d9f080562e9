/* A loop with real sockets, and a queue and a policy that do what the test wants: what becomes of requests and
 * connections when clients leave, pipeline, send too much or wrongly, when the queue fails, and when the service stops.
 */
#include "../check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "base/clock.h"
#include "base/signals.h"
#include "fakes.h"
#include "ingest/loop.h"
#include "ingest/measures.h"

#define WAIT_MS    5000
#define BODY_LIMIT 1000

struct fixture {
    struct config config;
    struct metrics *registry;
    struct measures measures;
    struct rate *rate;
    struct http *http;
    struct loop *loop;
    int listen_fd;
    uint16_t port;
    char answer[65536];
};

static struct fixture *start(size_t max_connections)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct error err;
    struct address address = {"127.0.0.1", 0};
    fakes.mode = FAKE_ANSWERS;
    fakes.delay_ms = fakes.added = 0;
    fakes.full = false;
    f->config =
        (struct config){.body_limit_bytes = BODY_LIMIT, .request_timeout_ms = 30000, .drain_ms = 2000, .partitions = 1};
    f->registry = metrics_new();
    measures_open(&f->measures, f->registry);
    f->rate = rate_new();
    f->http = loop_http_new(&f->config);
    f->listen_fd = address_listen(&address, 16, &f->port, &err);
    assert_true(f->listen_fd >= 0);
    struct loop_options options = {.config = &f->config,
                                   .http = f->http,
                                   .rate = f->rate,
                                   .measures = &f->measures,
                                   .listen_fd = f->listen_fd,
                                   .max_connections = max_connections,
                                   .max_in_all = max_connections};
    f->loop = loop_start(&options, NULL, &err);
    assert_non_null(f->loop);
    return f;
}

/* Every test ends with a drain, and what is left then is a leak. */
static void finish(struct fixture *f, size_t expect_cut)
{
    loop_drain(f->loop);
    assert_int_equal(loop_wait(f->loop), expect_cut);
    assert_int_equal(metric_value(f->measures.connections), 0);
    loop_free(f->loop);
    http_free(f->http);
    rate_free(f->rate);
    measures_close(&f->measures);
    metrics_free(f->registry);
    close(f->listen_fd);
    free(f);
}

static int dial(const struct fixture *f)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(f->port)};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

#define EVENT_HEAD "POST /v1/events/demo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Id: e1 \t\r\n"
#define GOOD       EVENT_HEAD "Content-Length: 2\r\n\r\n{}"
#define HEADERS_50 HEADERS_10 HEADERS_10 HEADERS_10 HEADERS_10 HEADERS_10
#define HEADERS_10 "A: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n"
#define NOWHERE    "POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"

static bool is_readable(int fd, int wait_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, wait_ms) == 1;
}

/* Reads one answer, head and body, byte by byte so that nothing of the next one is taken. "" at the end. */
static const char *hear(struct fixture *f, int fd)
{
    size_t n = 0, body = 0, head_len = 0;
    while (head_len == 0 || n < head_len + body) {
        assert_true(n < sizeof f->answer - 1);
        if (!is_readable(fd, WAIT_MS))
            fail_msg("no answer within %d ms", WAIT_MS);
        ssize_t got = recv(fd, f->answer + n, 1, 0);
        if (got <= 0)
            break;
        f->answer[++n] = '\0';
        if (head_len == 0 && n > 4 && strcmp(f->answer + n - 4, "\r\n\r\n") == 0) {
            const char *length = strcasestr(f->answer, "content-length: ");
            body = length == NULL ? 0 : strtoul(length + 16, NULL, 10);
            head_len = n;
        }
    }
    f->answer[n] = '\0';
    return f->answer;
}

static void assert_heard(struct fixture *f, int fd, int status, const char *part)
{
    const char *answer = hear(f, fd);
    if (strlen(answer) < 12 || atoi(answer + 9) != status || strcasestr(answer, part) == NULL)
        fail_msg("expected %d with '%s', got:\n%s", status, part, answer);
}

static void assert_closed(struct fixture *f, int fd)
{
    assert_string_equal(hear(f, fd), "");
    close(fd);
}

static void wait_until_added(int n)
{
    mono_time deadline = mono_after_ms(clock_mono(), WAIT_MS);
    while (fakes.added < n && !mono_is_past(deadline, clock_mono()))
        clock_sleep_ms(1);
    assert_int_equal(fakes.added, n);
}

static void wait_for_connections(struct fixture *f, int64_t n)
{
    mono_time deadline = mono_after_ms(clock_mono(), WAIT_MS);
    while (metric_value(f->measures.connections) != n && !mono_is_past(deadline, clock_mono()))
        clock_sleep_ms(1);
    assert_int_equal(metric_value(f->measures.connections), n);
}

static void an_event_is_acknowledged_when_the_queue_has_it(void **state)
{
    (void)state;
    struct fixture *f = start(10);
    fakes.delay_ms = 30;
    int fd = dial(f);
    mono_time before = clock_mono();
    say(fd, GOOD);
    assert_heard(f, fd, 202, "{\"status\":\"accepted\",\"event_id\":\"e1\",\"ingest_id\":\"");
    assert_true(mono_elapsed_ms(before, clock_mono()) >= 29); /* the loop's clock counts whole milliseconds */
    assert_int_equal(metric_value(f->measures.accepted), 1);
    close(fd);
    finish(f, 0);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    struct fixture *f = start(10);
    fakes.delay_ms = 20;
    int fd = dial(f);
    say(fd, GOOD NOWHERE GOOD);
    assert_heard(f, fd, 202, "accepted");
    assert_heard(f, fd, 404, "not_found");
    assert_heard(f, fd, 202, "accepted");
    close(fd);
    finish(f, 0);
}

static void clients_that_leave_while_the_queue_is_asked(void **state)
{
    (void)state;
    struct fixture *f = start(50);
    fakes.delay_ms = 50;
    const struct linger reset = {1, 0};
    for (int i = 0; i < 20; i++) {
        int fd = dial(f);
        say(fd, GOOD);
        if (i % 2 == 0)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        wait_until_added(i + 1);
        close(fd);
    }
    wait_for_connections(f, 0);
    finish(f, 0);
}

static void a_half_closed_client_gets_its_answer(void **state)
{
    (void)state;
    struct fixture *f = start(10);
    fakes.delay_ms = 30;
    int fd = dial(f);
    say(fd, GOOD);
    shutdown(fd, SHUT_WR);
    assert_heard(f, fd, 202, "accepted");
    assert_closed(f, fd);
    finish(f, 0);
}

/* What comes behind a request that waits is kept, but not without bound. */
static void a_flood_behind_a_waiting_request_is_held_back(void **state)
{
    (void)state;
    struct fixture *f = start(10);
    fakes.mode = FAKE_NEVER;
    int fd = dial(f), buffer = 65536;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    say(fd, GOOD);
    wait_until_added(1);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    static char flood[65536];
    size_t sent = 0;
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
    while (sent < (256u << 20) && poll(&poll_fd, 1, 300) == 1) {
        ssize_t n = send(fd, flood, sizeof flood, MSG_NOSIGNAL);
        assert_true(n > 0 || errno == EAGAIN);
        sent += n > 0 ? (size_t)n : 0;
    }
    assert_true(sent < (64u << 20)); /* the kernel's buffers, and little of ours */
    close(fd);
    f->config.drain_ms = 50;
    finish(f, 0);
}

static void when_the_queue_is_not_available(void **state)
{
    (void)state;
    struct fixture *f = start(10);
    int fd = dial(f);
    fakes.mode = FAKE_UNAVAILABLE;
    say(fd, GOOD);
    assert_heard(f, fd, 503, "queue_unavailable");
    assert_non_null(strcasestr(f->answer, "retry-after: "));
    fakes.mode = FAKE_FAILS;
    say(fd, GOOD);
    assert_heard(f, fd, 503, "queue_unavailable");
    fakes.mode = FAKE_ANSWERS;
    fakes.full = true;
    say(fd, GOOD);
    assert_heard(f, fd, 429, "backlog_full");
    assert_non_null(strcasestr(f->answer, "retry-after: "));
    fakes.full = false;
    say(fd, GOOD);
    assert_heard(f, fd, 202, "accepted");
    close(fd);
    finish(f, 0);
}

static void when_the_script_refuses_or_breaks(void **state)
{
    (void)state;
    struct fixture *f = start(10);
    int fd = dial(f);
    say(fd,
        "POST /v1/events/demo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
    assert_heard(f, fd, 401, "\"code\":\"unauthorized\"");
    say(fd,
        "POST /v1/events/demo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Id: fault\r\nContent-Length: "
        "2\r\n\r\n{}");
    assert_heard(f, fd, 503, "script_fault");
    assert_null(strstr(f->answer, "validate.lua"));
    assert_int_equal(fakes.added, 0);
    close(fd);
    finish(f, 0);
}

static void behind_ambiguous_framing_nothing_is_served(void **state)
{
    (void)state;
    struct fixture *f = start(10);
    int fd = dial(f);
    say(fd, "POST /v1/events/demo HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 2\r\n\r\n" GOOD);
    assert_heard(f, fd, 400, "bad_framing");
    assert_closed(f, fd);
    fd = dial(f);
    say(fd,
        "GET /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" GOOD);
    assert_heard(f, fd, 400, "connection: close");
    assert_closed(f, fd);
    assert_int_equal(fakes.added, 0);
    finish(f, 0);
}

/* The library answers this one by itself; the form and the counter are ours. */
static void a_body_over_the_limit(void **state)
{
    (void)state;
    struct fixture *f = start(10);
    int fd = dial(f);
    say(fd, "POST /v1/events/demo HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n");
    static char body[300001];
    memset(body, 'x', sizeof body - 1);
    say(fd, body);
    assert_heard(f, fd, 413, "application/problem+json");
    assert_non_null(strstr(f->answer, "\"code\":\"too_large\""));
    say(fd, body); /* what still comes is read and thrown away: an orderly end, no reset */
    shutdown(fd, SHUT_WR);
    char more;
    assert_int_equal(recv(fd, &more, 1, 0), 0);
    wait_for_connections(f, 0);
    close(fd);
    struct metric *counter = metrics_counter(f->registry, "waybill_ingest_requests_total", "code=\"too_large\"", "");
    assert_int_equal(metric_value(counter), 1);
    finish(f, 0);
}

/* A head of which the library's parser makes nothing is refused as any other. */
static void check_malformed_head(struct fixture *f, const char *text, const char *more, size_t times)
{
    struct metric *counter = metrics_counter(f->registry, "waybill_ingest_requests_total", "code=\"bad_framing\"", "");
    int64_t before = metric_value(counter);
    int fd = dial(f);
    say(fd, text);
    for (size_t i = 0; i < times; i++)
        say(fd, more);
    assert_heard(f, fd, 400, "application/problem+json");
    assert_non_null(strstr(f->answer, "\"code\":\"bad_framing\""));
    assert_non_null(strcasestr(f->answer, "connection: close"));
    shutdown(fd, SHUT_WR);
    assert_closed(f, fd);
    assert_int_equal(metric_value(counter), before + 1);
}

static void a_malformed_head_is_answered_as_any_other_request(void **state)
{
    (void)state;
    struct fixture *f = start(10);
    check_malformed_head(f, "nonsense\r\n\r\n" GOOD, "", 0);
    check_malformed_head(f, " / HTTP/1.1\r\nHost: a\r\n\r\n", "", 0);
    check_malformed_head(f, "POST  HTTP/1.1\r\nHost: a\r\n\r\n", "", 0);
    check_malformed_head(f, "POST /v1/events/demo HTTP/1.1\r\nno colon\r\n", "", 0);
    check_malformed_head(f, "\x16\x03\x01 a TLS hello, which has no newline", "", 0);
    check_malformed_head(f, EVENT_HEAD HEADERS_50 HEADERS_50 "\r\n", "", 0);      /* more than the library takes */
    check_malformed_head(f, EVENT_HEAD, HEADERS_10, 450000 / strlen(HEADERS_10)); /* no end in sight */
    check_malformed_head(f, EVENT_HEAD "A: ", "bbbbbbbbbb", 45000);               /* nor of a line */
    wait_for_connections(f, 0);
    int fd = dial(f);
    say(fd, "\r\n\r\n"); /* nothing at all */
    assert_closed(f, fd);
    assert_int_equal(fakes.added, 0);
    finish(f, 0);
}

static void white_space_behind_a_header_is_none_of_it(void **state)
{
    (void)state;
    struct fixture *f = start(10);
    int fd = dial(f);
    say(fd, EVENT_HEAD "Content-Length: \t2 \t \r\n\r\n{}");
    assert_heard(f, fd, 202, "\"event_id\":\"e1\"");
    say(fd, EVENT_HEAD "Transfer-Encoding: chunked \t\r\n\r\n2\r\n{}\r\n0\r\n\r\n");
    assert_heard(f, fd, 202, "\"event_id\":\"e1\"");
    say(fd, EVENT_HEAD "Content-Length: \t \r\n\r\n");
    assert_heard(f, fd, 400, "bad_framing");
    assert_closed(f, fd);
    finish(f, 0);
}

static void connections_beyond_the_cap_wait(void **state)
{
    (void)state;
    struct fixture *f = start(2);
    int first = dial(f), second = dial(f);
    say(first, "POST /v1/");
    say(second, "POST /v1/");
    wait_for_connections(f, 2);
    int third = dial(f);
    say(third, GOOD);
    assert_false(is_readable(third, 1200)); /* nobody is idle, however long */
    assert_int_equal(metric_value(f->measures.connections), 2);
    close(first);
    assert_heard(f, third, 202, "accepted");
    say(second, "nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}");
    assert_heard(f, second, 404, "not_found");
    close(second);
    close(third);
    finish(f, 0);
}

static void the_longest_idle_connection_makes_room(void **state)
{
    (void)state;
    struct fixture *f = start(4);
    fakes.mode = FAKE_NEVER;
    int waiting = dial(f), half = dial(f), longest = dial(f), idle = dial(f);
    say(waiting, GOOD);
    wait_until_added(1);
    say(half, "POST /");
    say(longest, NOWHERE);
    assert_heard(f, longest, 404, "keep-alive");
    say(idle, NOWHERE);
    assert_heard(f, idle, 404, "keep-alive");
    int newcomer = dial(f);
    say(newcomer, NOWHERE);
    assert_heard(f, newcomer, 404, "keep-alive");
    assert_closed(f, longest);
    say(idle, NOWHERE);
    assert_heard(f, idle, 404, "keep-alive");
    say(half, "nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}");
    assert_heard(f, half, 404, "keep-alive");
    close(half);
    close(idle);
    close(newcomer);
    wait_for_connections(f, 1);
    f->config.drain_ms = 50;
    loop_drain(f->loop);
    assert_heard(f, waiting, 503, "queue_unavailable");
    assert_closed(f, waiting);
    finish(f, 0);
}

static void a_drain_finishes_what_is_in_flight(void **state)
{
    (void)state;
    struct fixture *f = start(10);
    fakes.delay_ms = 200;
    int idle = dial(f), busy = dial(f), half = dial(f);
    say(idle, NOWHERE);
    assert_heard(f, idle, 404, "keep-alive");
    say(half, "POST /v1/events/demo HT");
    say(busy, GOOD);
    wait_until_added(1);
    wait_for_connections(f, 3);
    loop_drain(f->loop);
    assert_closed(f, idle);
    say(half, "TP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Id: e2\r\nContent-Length: 2\r\n\r\n{}");
    assert_heard(f, half, 503, "shutting_down");
    assert_non_null(strcasestr(f->answer, "connection: close"));
    assert_closed(f, half);
    assert_heard(f, busy, 202, "connection: close");
    assert_closed(f, busy);
    finish(f, 0);
}

static void a_drain_has_an_end(void **state)
{
    (void)state;
    struct fixture *f = start(10);
    f->config.drain_ms = 100;
    fakes.mode = FAKE_NEVER;
    int waiting = dial(f), half = dial(f);
    say(waiting, GOOD);
    say(half, "POST /v1/ev");
    wait_until_added(1);
    wait_for_connections(f, 2);
    mono_time before = clock_mono();
    loop_drain(f->loop);
    assert_heard(f, waiting, 503, "queue_unavailable");
    assert_closed(f, waiting);
    assert_closed(f, half);
    assert_in_range(mono_elapsed_ms(before, clock_mono()), 99, 3000); /* the loop's clock counts whole milliseconds */
    finish(f, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_is_acknowledged_when_the_queue_has_it),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(clients_that_leave_while_the_queue_is_asked),
        cmocka_unit_test(a_half_closed_client_gets_its_answer),
        cmocka_unit_test(a_flood_behind_a_waiting_request_is_held_back),
        cmocka_unit_test(when_the_queue_is_not_available),
        cmocka_unit_test(when_the_script_refuses_or_breaks),
        cmocka_unit_test(behind_ambiguous_framing_nothing_is_served),
        cmocka_unit_test(a_body_over_the_limit),
        cmocka_unit_test(a_malformed_head_is_answered_as_any_other_request),
        cmocka_unit_test(white_space_behind_a_header_is_none_of_it),
        cmocka_unit_test(connections_beyond_the_cap_wait),
        cmocka_unit_test(the_longest_idle_connection_makes_room),
        cmocka_unit_test(a_drain_finishes_what_is_in_flight),
        cmocka_unit_test(a_drain_has_an_end),
    };
    signals_block(); /* as in the service: a late answer to somebody who left raises SIGPIPE */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
