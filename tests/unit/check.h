/* cmocka's header and what it needs before it. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A group of its own: it needs all of the above before it. */
#include <cmocka.h>

#endif
