/* A redis-server of the test's own: on a free port of 127.0.0.1 and a unix socket, in a temporary folder, with every
 * write on disk before it is answered. Helpers fail the test when something is not as expected. */
#ifndef TEST_REDIS_SERVER_H
#define TEST_REDIS_SERVER_H

#include <hiredis.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct redis_server {
    char folder[64];
    char url[128], unix_url[128];
    int port;
    pid_t pid; /* 0: not running */
    redisContext *admin;
};

void server_start(struct redis_server *server, const char *extra_option, const char *extra_value);
void server_kill(struct redis_server *server);    /* SIGKILL; the data stay */
void server_restart(struct redis_server *server); /* on the same port and data */
void server_pause(struct redis_server *server);   /* SIGSTOP */
void server_resume(struct redis_server *server);
void server_destroy(struct redis_server *server); /* kills, and removes the folder */

/* A command with printf-like arguments as hiredis has them. The reply is owned by the caller. */
redisReply *server_ask(struct redis_server *server, const char *format, ...);
void server_do(struct redis_server *server, const char *format, ...);        /* the reply must not be an error */
int64_t server_number(struct redis_server *server, const char *format, ...); /* must be an integer */
void server_text(struct redis_server *server, char out[256], const char *format, ...); /* "" for nil */

#endif
