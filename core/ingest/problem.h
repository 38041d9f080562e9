/* Problems: what ingest answers when it does not accept (RFC 9457). The list of codes is part of the interface
 * (docs/event-format.md): senders and dashboards rely on it. Pure. */
#ifndef INGEST_PROBLEM_H
#define INGEST_PROBLEM_H

#include "base/buf.h"
#include "base/slice.h"

/* The codes that ingest itself answers with; validate.lua adds its own (unauthorized, stale_timestamp, missing_field
 * …). X(name, code, status, title) */
#define PROBLEMS(X)                                                                                                    \
    X(BAD_FRAMING, "bad_framing", 400, "Malformed request head")                                                       \
    X(NOT_FOUND, "not_found", 404, "No such resource")                                                                 \
    X(METHOD_NOT_ALLOWED, "method_not_allowed", 405, "Method not allowed")                                             \
    X(LENGTH_REQUIRED, "length_required", 411, "Length required")                                                      \
    X(TOO_LARGE, "too_large", 413, "Body too large")                                                                   \
    X(UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", 415, "Unsupported media type")                                 \
    X(UNSUPPORTED_ENCODING, "unsupported_encoding", 415, "Unsupported content encoding")                               \
    X(EXPECTATION_FAILED, "expectation_failed", 417, "Unknown expectation")                                            \
    X(INVALID_FIELD, "invalid_field", 422, "Invalid field")                                                            \
    X(RATE_LIMITED, "rate_limited", 429, "Too many requests")                                                          \
    X(BACKLOG_FULL, "backlog_full", 429, "Too many events waiting")                                                    \
    X(SCRIPT_FAULT, "script_fault", 503, "Validation unavailable")                                                     \
    X(QUEUE_UNAVAILABLE, "queue_unavailable", 503, "Queue unavailable")                                                \
    X(SHUTTING_DOWN, "shutting_down", 503, "Shutting down")

enum problem_id {
#define X(name, code, status, title) PROBLEM_##name,
    PROBLEMS(X)
#undef X
        PROBLEM_COUNT
};

struct problem {
    int status;
    struct slice code, title, detail;
    struct slice field; /* empty: none */
};

/* A problem of the list. detail is kept as a pointer. */
struct problem problem_of(enum problem_id id, const char *detail);

/* The title of a status, for problems that scripts make. */
const char *problem_status_title(int status);

/* Adds the JSON object: type, title, status, detail, code, field. */
void problem_write(const struct problem *problem, struct buf *out);

#endif
