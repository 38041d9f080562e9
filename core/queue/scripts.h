/* The server-side scripts (scripts/NAME.lua), embedded at build time. */
#ifndef QUEUE_SCRIPTS_H
#define QUEUE_SCRIPTS_H

#include "base/slice.h"

enum script_id {
    SCRIPT_OPEN,
    SCRIPT_RECLAIM,
    SCRIPT_KEEP,
    SCRIPT_HAND_BACK,
    SCRIPT_DROP,
    SCRIPT_PUBLISH,
    SCRIPT_RETRY,
    SCRIPT_DEAD,
    SCRIPT_PROMOTE,
    SCRIPT_REQUEUE,
    SCRIPT_FORGET_DEAD,
    SCRIPT_MEASURE,
    SCRIPT_LEAVE,
    SCRIPT_COUNT,
};

struct script {
    const char *name;
    const char *sha1; /* 40 hex digits, for EVALSHA */
    struct slice text;
};

extern const struct script scripts[SCRIPT_COUNT];

#endif
