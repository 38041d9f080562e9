/* HTTP for process.lua, over libcurl: one client a thread, connections are kept and used again. Worker only. */
#ifndef POLICY_HTTP_CLIENT_H
#define POLICY_HTTP_CLIENT_H

#include "policy/policy.h"

struct http_client;

struct http_client *http_client_new(struct error *err); /* NULL: libcurl cannot start */
void http_client_free(struct http_client *client);

/* policy_http.perform with the client as arg. Redirects are not followed, certificates are checked, and a response of
 * more than 1 MiB (64 KiB of headers) is an error. */
bool http_client_perform(void *client, const struct policy_http_request *request, struct arena *arena,
                         struct policy_http_response *response, struct error *err);

#endif
