#include "redis_server.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void run_server(const struct redis_server *server, const char *option, const char *value)
{
    char port[16], socket_path[96];
    snprintf(port, sizeof(port), "%d", server->port);
    snprintf(socket_path, sizeof(socket_path), "%s/redis.sock", server->folder);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* not to outlive a test that was killed */
    int log = open("/dev/null", O_WRONLY);
    dup2(log, STDOUT_FILENO);
    execlp("redis-server", "redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", server->folder,
           "--unixsocket", socket_path, "--save", "", "--appendonly", "yes", "--appendfsync", "always",
           "--enable-debug-command", "yes", option, value, (char *)NULL);
    _exit(127);
}

/* Waits until the server answers PING (and has its data loaded). */
static void wait_until_up(struct redis_server *server)
{
    for (mono_time end = mono_after_ms(clock_mono(), 10000); !mono_is_past(end, clock_mono()); clock_sleep_ms(5)) {
        redisContext *redis = redisConnectWithTimeout("127.0.0.1", server->port, (struct timeval){.tv_sec = 1});
        redisReply *reply = redis != NULL && redis->err == 0 ? redisCommand(redis, "PING") : NULL;
        bool up = reply != NULL && (reply->type == REDIS_REPLY_STATUS || strncmp(reply->str, "NOAUTH", 6) == 0);
        if (reply != NULL)
            freeReplyObject(reply);
        if (up) {
            redisSetTimeout(redis, (struct timeval){.tv_sec = 10}); /* a failed test may have left it paused */
            server->admin = redis;
            return;
        }
        if (redis != NULL)
            redisFree(redis);
    }
    fail_msg("redis-server did not come up on port %d", server->port);
}

static char option_kept[2][64]; /* for restarts: one extra option is the same for a server's whole life */

static void launch(struct redis_server *server)
{
    server->pid = fork();
    assert_true(server->pid >= 0);
    if (server->pid == 0)
        run_server(server, option_kept[0], option_kept[1]);
    wait_until_up(server);
}

void server_start(struct redis_server *server, const char *extra_option, const char *extra_value)
{
    signal(SIGPIPE, SIG_IGN);
    *server = (struct redis_server){.folder = "/tmp/waybill-queue-XXXXXX"};
    snprintf(option_kept[0], sizeof(option_kept[0]), "%s", extra_option == NULL ? "--hz" : extra_option);
    snprintf(option_kept[1], sizeof(option_kept[1]), "%s", extra_option == NULL ? "10" : extra_value);
    assert_non_null(mkdtemp(server->folder));
    server->port = free_port();
    snprintf(server->url, sizeof(server->url), "redis://127.0.0.1:%d/0", server->port);
    snprintf(server->unix_url, sizeof(server->unix_url), "unix://%s/redis.sock", server->folder);
    launch(server);
}

void server_kill(struct redis_server *server)
{
    if (server->pid == 0)
        return;
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
    server->pid = 0;
    redisFree(server->admin);
    server->admin = NULL;
}

void server_restart(struct redis_server *server)
{
    server_kill(server);
    launch(server);
}

void server_pause(struct redis_server *server)
{
    kill(server->pid, SIGSTOP);
    waitpid(server->pid, NULL, WUNTRACED);
}

void server_resume(struct redis_server *server)
{
    kill(server->pid, SIGCONT);
}

static void remove_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    for (struct dirent *entry = dir == NULL ? NULL : readdir(dir); entry != NULL; entry = readdir(dir)) {
        char path[512];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        if (unlink(path) != 0)
            remove_folder(path);
    }
    if (dir != NULL)
        closedir(dir);
    rmdir(folder);
}

void server_destroy(struct redis_server *server)
{
    server_kill(server);
    remove_folder(server->folder);
}

static redisReply *ask(struct redis_server *server, const char *format, va_list args)
{
    redisReply *reply = redisvCommand(server->admin, format, args);
    if (reply == NULL)
        fail_msg("'%s': %s", format, server->admin->errstr);
    return reply;
}

redisReply *server_ask(struct redis_server *server, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    redisReply *reply = ask(server, format, args);
    va_end(args);
    return reply;
}

void server_do(struct redis_server *server, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    redisReply *reply = ask(server, format, args);
    va_end(args);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("'%s': %s", format, reply->str);
    freeReplyObject(reply);
}

int64_t server_number(struct redis_server *server, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    redisReply *reply = ask(server, format, args);
    va_end(args);
    if (reply->type != REDIS_REPLY_INTEGER)
        fail_msg("'%s': not an integer: %s", format, reply->str == NULL ? "" : reply->str);
    int64_t number = reply->integer;
    freeReplyObject(reply);
    return number;
}

void server_text(struct redis_server *server, char out[256], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    redisReply *reply = ask(server, format, args);
    va_end(args);
    snprintf(out, 256, "%s", reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS ? reply->str : "");
    freeReplyObject(reply);
}
