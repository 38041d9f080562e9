/* The framing of a request, read from its raw head. The HTTP library lets ambiguous framing through (two lengths, a
 * length beside chunked) and then serves the rest of the bytes as another request; this scan is what refuses it.
 * Pure: no I/O, no library. */
#ifndef INGEST_FRAMING_H
#define INGEST_FRAMING_H

#include <stdbool.h>

#include "base/slice.h"

struct framing {
    const char *problem;         /* NULL: sound. Else what is wrong, for the sender; the connection must be closed */
    bool has_length, is_chunked; /* neither: the request has no body */
};

/* input begins with the head (one empty line before the request line is allowed) and may go on behind it. */
void framing_scan(struct slice input, struct framing *out);

#endif
