/* The scan of request heads: reads nothing beyond its input, and no sound head stays sound with a second length. */
#include <stdint.h>
#include <stdlib.h>

#include "ingest/framing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *find_end(const char *text, size_t len)
{
    return memmem(text, len, "\r\n\r\n", 4);
}

static void check_with_another_line(struct slice input, const char *line)
{
    const char *end = find_end(input.base, input.len);
    if (end == NULL)
        abort(); /* a sound head has an end */
    size_t head = (size_t)(end - input.base) + 2, line_len = strlen(line);
    char *longer = malloc(input.len + line_len);
    memcpy(longer, input.base, head);
    memcpy(longer + head, line, line_len);
    memcpy(longer + head + line_len, input.base + head, input.len - head);
    struct framing framing;
    framing_scan((struct slice){longer, input.len + line_len}, &framing);
    free(longer);
    if (framing.problem == NULL)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = {(const char *)data, size};
    struct framing framing;
    framing_scan(input, &framing);
    if (framing.problem == NULL && (framing.has_length || framing.is_chunked)) {
        check_with_another_line(input, "Content-Length: 1\r\n");
        check_with_another_line(input, "Transfer-Encoding: chunked\r\n");
    }
    return 0;
}
