/* Errors are values: a sentence that the reader can act on. A function that can fail returns false (or a result code
 * of its part) and fills the caller's struct error; it logs nothing itself. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <stdarg.h>

#define MUST_USE __attribute__((warn_unused_result))

struct error {
    char text[512];
};

/* Sets the text; a longer one is cut. err may be NULL. */
void error_set(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "prefix: " before the text that is there. */
void error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
