/* The HTTP library's parser of requests, mended. It reads heads and chunked bodies by two functions with public names;
 * functions of ours that bear these names come before them, as the dynamic linker prefers a symbol of the executable.
 * They decode chunks strictly, and turn a head that is none into a request that can be refused like any other: the
 * library would answer it by itself, in plain text, and tell nobody. */
#ifndef INGEST_PARSER_H
#define INGEST_PARSER_H

#include <stdbool.h>

#include "base/slice.h"

/* Call before any thread reads a request. false: the library has no such parser, and nothing can be read. */
bool parser_open(void);

/* Whether this is the method of a head that the parser refused. Nothing else of it was read: no header, no body. */
bool parser_refused(struct slice method);

#endif
