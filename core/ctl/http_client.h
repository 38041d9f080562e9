/* A small blocking HTTP client for waybillctl, over libcurl: one connection kept open, no redirects, bounded answers.
 */
#ifndef CTL_HTTP_CLIENT_H
#define CTL_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/slice.h"

struct http_header {
    const char *name;
    struct slice value;
};

struct http_request {
    const char *method; /* "GET" or "POST" */
    const char *url;
    const struct http_header *headers;
    size_t n_headers;
    struct slice body; /* POST only */
    int64_t timeout_ms;
};

struct http_response {
    int status;
    int64_t elapsed_us;
    int64_t retry_after_s; /* -1: the header was not there */
    struct buf body;
};

struct ctl_http;
/* Never NULL. ca_file: certificates to trust in the place of the system's; NULL for those. Kept as a pointer. */
struct ctl_http *ctl_http_new(const char *ca_file);
void ctl_http_free(struct ctl_http *client);

/* false: no answer, and err says why in words for the user. The caller frees response->body in both cases. */
bool ctl_http_send(struct ctl_http *client, const struct http_request *request, struct http_response *response,
                   struct error *err) MUST_USE;

/* true when url's host is this machine, so that no proxy is asked for it. */
bool http_is_loopback(const char *url);

#endif
