/* The small grammars of a request: its path, media type and trace context. Pure. */
#ifndef INGEST_SYNTAX_H
#define INGEST_SYNTAX_H

#include <stdbool.h>

#include "base/slice.h"

/* true when target is exactly /v1/events/{source} with a valid name: no query, no percent-encoding, nothing doubled or
 * trailing. Scheme and host may stand before it (RFC 9112, section 3.2.2). *source is a view into target. */
bool syntax_event_path(struct slice target, struct slice *source);

/* application/json or application/…+json, with or without parameters. */
bool syntax_is_json_type(struct slice content_type);

/* Whether a Content-Encoding leaves the body as it is. */
bool syntax_is_identity(struct slice content_encoding);

/* A W3C traceparent (level 2): lower-case hex, not all zero, version not ff; version 00 has exactly four fields. */
bool syntax_is_traceparent(struct slice value);

#endif
