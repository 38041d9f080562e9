#include "queue/reply_error.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* true when text's first word is code. */
static bool has_code(const char *text, const char *code)
{
    size_t len = strlen(code);
    return strncmp(text, code, len) == 0 && (text[len] == ' ' || text[len] == '\0');
}

enum reply_error reply_error_of(const char *text)
{
    static const struct {
        const char *code;
        enum reply_error meaning;
    } codes[] = {
        {"LOADING", REPLY_UNAVAILABLE},    {"OOM", REPLY_UNAVAILABLE},    {"MISCONF", REPLY_UNAVAILABLE},
        {"NOREPLICAS", REPLY_UNAVAILABLE}, {"BUSY", REPLY_UNAVAILABLE},   {"UNKILLABLE", REPLY_UNAVAILABLE},
        {"TRYAGAIN", REPLY_UNAVAILABLE},   {"UNBLOCKED", REPLY_NO_GROUP}, {"NOGROUP", REPLY_NO_GROUP},
        {"NOSCRIPT", REPLY_NO_SCRIPT},     {"READONLY", REPLY_READ_ONLY}, {"MASTERDOWN", REPLY_READ_ONLY},
        {"CLUSTERDOWN", REPLY_READ_ONLY},
    };
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (has_code(text, codes[i].code))
            return codes[i].meaning;
    }
    /* Has no code of its own; the server closes the connection after it. */
    return strstr(text, "max number of clients") != NULL ? REPLY_UNAVAILABLE : REPLY_REFUSED;
}

const char *reply_error_advice(const char *text)
{
    static const struct {
        const char *code, *advice;
    } advices[] = {
        {"NOAUTH", " (WAYBILL_REDIS_URL needs a password)"},
        {"WRONGPASS", " (check user and password in WAYBILL_REDIS_URL)"},
        {"NOPERM", " (the Redis user lacks a permission: it needs the waybill:* keys and all commands on them)"},
        {"WRONGTYPE", " (something else uses a key that begins with waybill:)"},
        {"MOVED", " (this is a node of a Redis Cluster that does not hold the queue's slot)"},
        {"CROSSSLOT", " (a Redis Cluster needs WAYBILL_PARTITIONS=1)"},
    };
    for (size_t i = 0; i < sizeof(advices) / sizeof(advices[0]); i++) {
        if (has_code(text, advices[i].code))
            return advices[i].advice;
    }
    if (strstr(text, "compiling script") != NULL || strstr(text, "unknown command") != NULL)
        return " (Redis 7 or newer is needed)";
    return "";
}
