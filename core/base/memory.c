#include "base/memory.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define ARENA_BLOCK_BYTES (size_t)(16 * 1024)

static void out_of_memory(size_t size)
{
    fprintf(stderr, "out of memory: %zu bytes asked for\n", size);
    abort();
}

void *memory_alloc(size_t size)
{
    void *memory = calloc(1, size == 0 ? 1 : size);
    if (memory == NULL)
        out_of_memory(size);
    return memory;
}

void *memory_resize(void *old, size_t size)
{
    void *memory = realloc(old, size == 0 ? 1 : size);
    if (memory == NULL)
        out_of_memory(size);
    return memory;
}

char *memory_strdup(const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL)
        out_of_memory(strlen(text));
    return copy;
}

void memory_wipe(void *secret, size_t size)
{
    if (size > 0)
        explicit_bzero(secret, size);
}

struct block {
    struct block *next;
    size_t used, size;
    _Alignas(max_align_t) char data[];
};

struct arena {
    struct block *blocks; /* the first one has room */
};

static struct block *block_new(size_t size, struct block *next)
{
    struct block *block = malloc(sizeof *block + size);
    if (block == NULL)
        out_of_memory(size);
    block->next = next;
    block->used = 0;
    block->size = size;
    return block;
}

struct arena *arena_new(void)
{
    struct arena *arena = memory_alloc(sizeof *arena);
    arena->blocks = block_new(ARENA_BLOCK_BYTES, NULL);
    return arena;
}

void arena_reset(struct arena *arena)
{
    struct block *block = arena->blocks;
    while (block->next != NULL) {
        struct block *next = block->next;
        free(block);
        block = next;
    }
    block->used = 0;
    arena->blocks = block;
}

void arena_free(struct arena *arena)
{
    if (arena == NULL)
        return;
    arena_reset(arena);
    free(arena->blocks);
    free(arena);
}

static void *arena_take(struct arena *arena, size_t size)
{
    size_t align = _Alignof(max_align_t);
    if (size > SIZE_MAX / 2)
        out_of_memory(size);
    size_t need = (size + align - 1) / align * align;
    struct block *block = arena->blocks;
    if (block->size - block->used < need) {
        block = block_new(need > ARENA_BLOCK_BYTES ? need : ARENA_BLOCK_BYTES, block);
        arena->blocks = block;
    }
    void *memory = block->data + block->used;
    block->used += need;
    return memory;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    return memset(arena_take(arena, size), 0, size);
}

struct slice arena_copy(struct arena *arena, const void *data, size_t len)
{
    char *copy = arena_take(arena, len + 1);
    if (len > 0)
        memcpy(copy, data, len);
    copy[len] = '\0';
    return (struct slice){copy, len};
}

struct slice arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    size_t len = n < 0 ? 0 : (size_t)n;
    char *text = arena_take(arena, len + 1);
    text[0] = '\0';
    vsnprintf(text, len + 1, format, again);
    va_end(again);
    return (struct slice){text, len};
}
