/* Well-formed UTF-8 (RFC 3629, section 4: no overlong forms, no surrogates, nothing beyond U+10FFFF). */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

/* Length of the well-formed sequence at p (1 to 4), or 0 when there is none. left is at least 1. */
size_t utf8_sequence(const unsigned char *p, size_t left);

bool utf8_check(struct slice text);

#endif
