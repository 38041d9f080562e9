/* Memory. Small allocations of our own end the process when there is none left (there is nothing sensible to do);
 * anything whose size a stranger chooses is bounded before it gets here.
 *
 * An arena is a scope: a request's or a batch's memory, given back all at once. */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stddef.h>

#include "base/slice.h"

void *memory_alloc(size_t size);             /* zeroed; never NULL */
void *memory_resize(void *old, size_t size); /* never NULL */
char *memory_strdup(const char *text);       /* never NULL; free() */
void memory_wipe(void *secret, size_t size); /* not optimised away */

struct arena; /* one owner, one thread */

struct arena *arena_new(void);
void arena_free(struct arena *arena);
void arena_reset(struct arena *arena);               /* everything handed out is gone; keeps one block */
void *arena_alloc(struct arena *arena, size_t size); /* zeroed, aligned for any type */
struct slice arena_copy(struct arena *arena, const void *data, size_t len); /* the copy has a NUL behind it */
struct slice arena_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
