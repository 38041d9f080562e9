/* What a container's health check asks of the service beside it (waybill-ingest --check-ready), so that an image needs
 * no HTTP client. Uses: base. */
#ifndef ADMIN_PROBE_H
#define ADMIN_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Takes --check-live or --check-ready out of argv. The path to ask for, or NULL when neither is there. */
const char *probe_take_flag(int *argc, char **argv);

/* GET path from the admin listener at "host:port"; an address that means all interfaces is asked on this machine.
 * false: it did not answer 200 within timeout_ms, and err has what it said, or why there is no answer. */
bool probe_ask(const char *listen, const char *path, int64_t timeout_ms, struct error *err) MUST_USE;

#endif
