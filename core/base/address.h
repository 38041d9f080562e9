/* Addresses and URLs of services, as settings give them. */
#ifndef BASE_ADDRESS_H
#define BASE_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct address {
    char host[256]; /* without the brackets of IPv6 */
    uint16_t port;
};

/* "127.0.0.1:8080", "[::1]:8080", ":8080" (all interfaces, host is ""). */
bool address_parse(const char *text, struct address *out, struct error *err) MUST_USE;

struct redis_url {
    char host[256], unix_path[108]; /* unix_path is "" for TCP */
    char user[128], password[256];  /* "" when there is none */
    uint16_t port;
    int database;
};

/* redis://[user[:password]@]host[:port][/db] or unix://[user[:password]@]/path[?db=N] (redis+unix:// too), with %XX in
 * user and password. */
bool redis_url_parse(const char *text, struct redis_url *out, struct error *err) MUST_USE;

/* A bound, listening, non-blocking, close-on-exec TCP socket, or -1 with a sentence (port in use, no permission).
 * *port gets the port in use (for port 0). */
int address_listen(const struct address *address, int backlog, uint16_t *port, struct error *err) MUST_USE;

#endif
