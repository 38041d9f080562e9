#include "ctl/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* How many bytes of a control character begin here: those below 0x20, 0x7f, and U+0080 to U+009F, which terminals obey
 * too; 0 when it is none. */
static size_t control_bytes(const unsigned char *p, size_t left)
{
    if (p[0] < 0x20 || p[0] == 0x7f)
        return 1;
    return left > 1 && p[0] == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f ? 2 : 0;
}

static void print_harmless(struct slice text, const char *kept)
{
    for (size_t i = 0; i < text.len;) {
        size_t n = control_bytes((const unsigned char *)text.base + i, text.len - i);
        bool is_kept = n == 0 || (text.base[i] != '\0' && strchr(kept, text.base[i]) != NULL);
        putchar(is_kept ? text.base[i] : '?');
        i += n == 0 ? 1 : n;
    }
}

void output_text(struct slice text)
{
    print_harmless(text, "");
}

void output_lines(struct slice text)
{
    print_harmless(text, "\n\t");
    putchar('\n');
}

/* In single quotes nothing is special to a POSIX shell but the quote itself. */
void output_add_shell_word(struct buf *out, struct slice text)
{
    buf_add_char(out, '\'');
    for (size_t i = 0; i < text.len; i++) {
        if (text.base[i] == '\'')
            buf_add_text(out, "'\\''");
        else
            buf_add_char(out, text.base[i]);
    }
    buf_add_char(out, '\'');
}

struct slice output_shell_word(struct arena *arena, const char *text)
{
    struct buf word = {0};
    output_add_shell_word(&word, slice_of(text));
    struct slice kept = arena_copy(arena, word.data, word.len);
    buf_free(&word);
    return kept;
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
        output_text(table->cells[i]);
        printf("%*s%s", last ? 0 : (int)(widths[i % columns] - width(table->cells[i]) + 2), "", last ? "\n" : "");
    }
}

void output_table_free(struct output_table *table)
{
    free(table->cells);
    *table = (struct output_table){0};
}
