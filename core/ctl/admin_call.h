/* Asking the admin listeners of ingest and worker. */
#ifndef CTL_ADMIN_CALL_H
#define CTL_ADMIN_CALL_H

#include "ctl/ctl.h"
#include "ctl/http_client.h"
#include "ctl/json_read.h"

struct admin_answer {
    bool reached;
    int status;
    struct slice text;             /* the body; when not reached: why */
    const struct json_value *json; /* NULL when the body is no JSON */
};

/* Memory of the answer is ctl's arena's. */
struct admin_answer admin_call(struct ctl *ctl, struct ctl_http *client, const char *address, const char *method,
                               const char *path);

#endif
