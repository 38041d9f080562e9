/* The strict JSON check: what it accepts is UTF-8, stays accepted inside of an array, and not with something behind it.
 * A string that the writer makes of any bytes is accepted. */
#include <stdint.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_accepted(struct slice text)
{
    struct error err;
    struct buf more = {0};
    require(utf8_check(text));
    buf_add_text(&more, " \t\r\n");
    buf_add_slice(&more, text);
    buf_add_text(&more, "\n");
    require(json_check(buf_slice(&more), &err));
    buf_add_text(&more, "x");
    require(!json_check(buf_slice(&more), &err));
    buf_free(&more);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = {(const char *)data, size};
    struct error err;
    if (json_check(text, &err))
        check_accepted(text);
    struct buf written = {0};
    json_add_string(&written, text);
    require(json_check(buf_slice(&written), &err));
    buf_free(&written);
    return 0;
}
