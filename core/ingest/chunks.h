/* The chunked transfer coding, decoded strictly (RFC 9112, section 7.1). The HTTP library's own decoder takes lines
 * that end in LF alone, and "0x5" for the last chunk: where a proxy in front reads the same bytes differently, the rest
 * of a body would be served as another request. Pure: no I/O, no library. */
#ifndef INGEST_CHUNKS_H
#define INGEST_CHUNKS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Extensions and trailers mean nothing here; beyond so many bytes of them in one body they are an attack. */
#define CHUNKS_EXTRA_MAX_BYTES 8192

/* Laid out to fit where the library keeps the state of its decoder: all zero at first, but for the second member. */
struct chunks {
    size_t left;    /* bytes of the chunk, still to come */
    uint8_t unused; /* the library writes it */
    uint8_t state;
    uint16_t extra_bytes;
};

#define CHUNKS_INCOMPLETE (-2)
#define CHUNKS_BROKEN     (-1)

/* Decodes what newly came, in place: bytes[0 … *len) becomes the body's next bytes, *len their number. Returns how many
 * bytes behind the body's end were left (they follow those of the body), CHUNKS_INCOMPLETE or CHUNKS_BROKEN. */
ssize_t chunks_decode(struct chunks *chunks, char *bytes, size_t *len);

#endif
