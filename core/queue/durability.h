/* Whether a server's settings keep what is acknowledged. */
#ifndef QUEUE_DURABILITY_H
#define QUEUE_DURABILITY_H

#include <stddef.h>

#include <hiredis.h>

#include "base/slice.h"

/* The command that asks for the settings (several names in one are Redis 7's). */
#define DURABILITY_PARTS 5
extern const struct slice durability_command[DURABILITY_PARTS];

/* From the reply: a sentence when events could be lost or evicted, or when the server does not tell; "" when good. */
void durability_judge(const redisReply *reply, char *warning, size_t size);

#endif
