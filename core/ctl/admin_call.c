#include "ctl/admin_call.h"

#define ADMIN_TIMEOUT_MS 5000

struct admin_answer admin_call(struct ctl *ctl, struct ctl_http *client, const char *address, const char *method,
                               const char *path)
{
    struct admin_answer answer = {0};
    struct http_response response;
    struct error err;
    struct slice url = arena_printf(ctl->arena, "http://%s%s", address, path);
    const struct http_request request = {.method = method, .url = url.base, .timeout_ms = ADMIN_TIMEOUT_MS};
    if (ctl_http_send(client, &request, &response, &err)) {
        answer.reached = true;
        answer.status = response.status;
        answer.text = arena_copy(ctl->arena, response.body.data, response.body.len);
        answer.json = json_read(answer.text, ctl->arena, NULL);
    } else {
        answer.text = arena_printf(ctl->arena, "%s", err.text);
    }
    buf_free(&response.body);
    return answer;
}
