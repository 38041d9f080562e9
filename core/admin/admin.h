/* The admin listener of both services: health, metrics, status and reload on a loopback port, on threads of its own
 * (libmicrohttpd, privately). Uses: base. */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/metrics.h"

/* Called on the listener's threads, several at once: must be thread-safe and, except reload, quick. */
struct admin_service {
    void *arg;
    /* true when traffic or work can be taken; adds one line a check ("redis: ok\n"). GET /readyz: 200 or 503. */
    bool (*ready)(void *arg, struct buf *out);
    /* Adds one JSON object. GET /status. */
    void (*status)(void *arg, struct buf *out);
    /* Refreshes gauges before GET /metrics; may be NULL. */
    void (*measure)(void *arg);
    /* Reloads the scripts; the others are called meanwhile. POST /reload: 200 {"generation":…,"hash":…} (out) or 409
     * {"error":…}. */
    bool (*reload)(void *arg, struct buf *out, struct error *err);
    struct metrics *metrics;
};

struct admin;
/* Listens on "host:port" and serves. NULL: err says why. service is copied. */
struct admin *admin_start(const char *listen, const struct admin_service *service, struct error *err);
/* host:port, with the port that was chosen for port 0. */
const char *admin_address(const struct admin *admin);
void admin_stop(struct admin *admin); /* NULL is allowed */

#endif
