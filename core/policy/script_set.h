/* What the rest of the part sees of a script set. Knows no Lua. */
#ifndef POLICY_SCRIPT_SET_H
#define POLICY_SCRIPT_SET_H

#include "base/slice.h"
#include "policy/policy.h"

struct script {
    char *name; /* relative to the folder, as "lib/signature.lua" */
    struct slice text;
};

/* NULL when there is none of that name. */
const struct script *script_set_find(const struct script_set *set, const char *name);

/* All scripts, sorted by name. */
const struct script *script_set_scripts(const struct script_set *set, size_t *n);

#endif
