/* The secrets of sources: variables WAYBILL_SECRET_<SOURCE>, or files that WAYBILL_SECRET_<SOURCE>_FILE names. Never
 * from a command line. */
#ifndef BASE_SECRETS_H
#define BASE_SECRETS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Every secret of one source. Source names are lower case; a '-' in a name is '_' in the variable. */
struct config_secret {
    char *source; /* "demo" for WAYBILL_SECRET_DEMO; '_' stays as it is */
    char *values; /* space-separated */
};

/* Reads the environment and the files that it names. The environment of a process does not change, its files may: call
 * it again for what they hold now. false: nothing to free, err names the variable and the file. */
bool secrets_read(struct config_secret **secrets, size_t *n, struct error *err) MUST_USE;
void secrets_free(struct config_secret *secrets, size_t n); /* wipes them */

/* Whether the variable is one of those. */
bool secrets_is_variable(const char *name, size_t len);

/* For secrets of another kind: the first 64 KiB of a file without the white space at its end, or NULL. The caller wipes
 * and frees it. */
char *secrets_read_file(const char *variable, const char *path, struct error *err);

#endif
