#include "ctl/output.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"

void output_line(const struct buf *line)
{
    fwrite(line->data, 1, line->len, stdout);
    putchar('\n');
    fflush(stdout); /* a reader at the other end of a pipe sees each line as it happens */
}

const char *output_upper(struct arena *arena, const char *source)
{
    size_t n = strlen(source);
    char *upper = arena_alloc(arena, n + 1);
    for (size_t i = 0; i < n; i++)
        upper[i] = (char)(source[i] == '-' ? '_' : source[i] >= 'a' && source[i] <= 'z' ? source[i] - 32 : source[i]);
    return upper;
}

struct slice output_duration(struct arena *arena, int64_t ms)
{
    if (ms >= 1000 && ms < 10000)
        return arena_printf(arena, "%lld.%llds", (long long)(ms / 1000), (long long)(ms % 1000 / 100));
    static const struct {
        int64_t ms;
        const char *unit;
    } units[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (ms >= units[i].ms && (i > 0 || ms >= 2 * units[i].ms)) /* hours up to two days */
            return arena_printf(arena, "%lld%s", (long long)(ms / units[i].ms), units[i].unit);
    return arena_printf(arena, "%lldms", (long long)ms);
}

struct slice output_age(struct arena *arena, int64_t then_ms, int64_t now_ms)
{
    int64_t age = now_ms - then_ms;
    if (age < 0)
        return arena_printf(arena, "in %.*s", SLICE_ARG(output_duration(arena, -age)));
    if (age < 1000)
        return SLICE_LITERAL("now");
    return arena_printf(arena, "%.*s ago", SLICE_ARG(output_duration(arena, age)));
}

/* How many columns a terminal uses, near enough: one a character. */
static size_t width(struct slice text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; n++) {
        size_t bytes = utf8_sequence((const unsigned char *)text.base + i, text.len - i);
        i += bytes == 0 ? 1 : bytes;
    }
    return n;
}

void output_table_add(struct output_table *table, const struct slice *cells)
{
    if (table->n_rows == table->size) {
        table->size = table->size == 0 ? 32 : table->size * 2;
        table->cells = memory_resize(table->cells, table->size * table->n_columns * sizeof *cells);
    }
    memcpy(table->cells + table->n_rows++ * table->n_columns, cells, table->n_columns * sizeof *cells);
}

/* What a stranger wrote must not move the cursor or colour the terminal: control characters become '?'. */
static void print_cell(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.base[i];
        putchar(c < 0x20 || c == 0x7f ? '?' : c);
    }
}

void output_table_print(const struct output_table *table)
{
    size_t widths[OUTPUT_MAX_COLUMNS] = {0};
    size_t columns = table->n_columns;
    for (size_t i = 0; i < table->n_rows * columns; i++) {
        size_t n = width(table->cells[i]);
        if (n > widths[i % columns])
            widths[i % columns] = n;
    }
    for (size_t i = 0; i < table->n_rows * columns; i++) {
        bool last = i % columns == columns - 1;
        print_cell(table->cells[i]);
        printf("%*s%s", last ? 0 : (int)(widths[i % columns] - width(table->cells[i]) + 2), "", last ? "\n" : "");
    }
}

void output_table_free(struct output_table *table)
{
    free(table->cells);
    *table = (struct output_table){0};
}
