#include "ingest/parser.h"

#include <dlfcn.h>
#include <h2o.h>

#include "ingest/chunks.h"

/* As the library's parser has it, which comes without a header file. */
struct phr_header {
    const char *name; /* NULL: goes on from the line before */
    size_t name_len;
    const char *value;
    size_t value_len;
};

/* > 0: the head's length; HEAD_INCOMPLETE, HEAD_BROKEN. read_before: length of bytes at the last call for this head. */
typedef int parse_request(const char *bytes, size_t len, const char **method, size_t *method_len, const char **path,
                          size_t *path_len, int *minor_version, struct phr_header *headers, size_t *n_headers,
                          size_t read_before);
typedef ssize_t decode_chunked(struct chunks *chunks, char *bytes, size_t *len);

#define HEAD_INCOMPLETE (-2)
#define HEAD_BROKEN     (-1)

parse_request phr_parse_request;
decode_chunked phr_decode_chunked;

static parse_request *library_parse_request; /* set once, by parser_open */

bool parser_open(void)
{
    library_parse_request = (parse_request *)dlsym(RTLD_NEXT, "phr_parse_request");
    return library_parse_request != NULL;
}

bool parser_refused(struct slice method)
{
    return method.len == 0; /* the library itself lets no sound request through without one */
}

/* White space around a value is none of it (RFC 9110, section 5.5); the library leaves it at the end. */
static void trim_ends(struct phr_header *headers, size_t n)
{
    for (struct phr_header *header = headers; header < headers + n; header++) {
        const char *value = header->value;
        while (header->value_len > 0 && (value[header->value_len - 1] == ' ' || value[header->value_len - 1] == '\t'))
            header->value_len--;
    }
}

/* Some senders end a body with a newline too many; when it is all that there is, the library just closes. */
static bool is_only_newlines(const char *bytes, size_t len)
{
    size_t n = 0;
    while (n < len && (bytes[n] == '\r' || bytes[n] == '\n'))
        n++;
    return n == len && len <= 4;
}

int phr_parse_request(const char *bytes, size_t len, const char **method, size_t *method_len, const char **path,
                      size_t *path_len, int *minor_version, struct phr_header *headers, size_t *n_headers,
                      size_t read_before)
{
    int result = library_parse_request(bytes, len, method, method_len, path, path_len, minor_version, headers,
                                       n_headers, read_before);
    if (result > 0)
        trim_ends(headers, *n_headers);
    bool is_too_large = result == HEAD_INCOMPLETE && len >= H2O_MAX_REQLEN;
    bool is_malformed = result == HEAD_BROKEN && !is_only_newlines(bytes, len);
    if (!is_too_large && !is_malformed)
        return result;
    *method = "";
    *method_len = 0;
    *path = "/";
    *path_len = 1;
    *minor_version = 1;
    *n_headers = 0;
    return (int)len;
}

ssize_t phr_decode_chunked(struct chunks *chunks, char *bytes, size_t *len)
{
    return chunks_decode(chunks, bytes, len);
}
