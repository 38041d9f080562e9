#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

#define HIGH_BITS UINT64_C(0x8080808080808080)

size_t utf8_sequence(const unsigned char *p, size_t left)
{
    unsigned char c = p[0];
    if (c < 0x80)
        return 1;
    size_t n = c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
    if (n == 0 || left < n)
        return 0;
    unsigned char low = 0x80, high = 0xbf; /* bounds of the second byte */
    if (c == 0xe0)
        low = 0xa0; /* overlong */
    else if (c == 0xed)
        high = 0x9f; /* surrogates */
    else if (c == 0xf0)
        low = 0x90; /* overlong */
    else if (c == 0xf4)
        high = 0x8f; /* beyond U+10FFFF */
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    }
    return n;
}

/* Most of what we see is ASCII: eight bytes at a time. */
static size_t skip_ascii(const unsigned char *p, size_t i, size_t len)
{
    uint64_t eight;
    for (; len - i >= sizeof eight; i += sizeof eight) {
        memcpy(&eight, p + i, sizeof eight);
        if ((eight & HIGH_BITS) != 0)
            break;
    }
    while (i < len && p[i] < 0x80)
        i++;
    return i;
}

bool utf8_check(struct slice text)
{
    const unsigned char *p = (const unsigned char *)text.base;
    for (size_t i = skip_ascii(p, 0, text.len); i < text.len; i = skip_ascii(p, i, text.len)) {
        size_t n = utf8_sequence(p + i, text.len - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}
