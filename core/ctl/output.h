/* What commands print: lines of JSON for programs, aligned columns and ages for people. Standard output. */
#ifndef CTL_OUTPUT_H
#define CTL_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/memory.h"
#include "base/slice.h"

/* Writes the buffer and a newline. */
void output_line(const struct buf *line);

/* What a stranger wrote must not move the cursor or colour the terminal: control characters become '?'. */
void output_text(struct slice text);
/* The same for a text of several lines, and a newline. */
void output_lines(struct slice text);

/* text as one word of a shell, for lines to paste: a stranger chooses event ids. In arena. */
struct slice output_shell_word(struct arena *arena, const char *text);
void output_add_shell_word(struct buf *out, struct slice text);

/* "courier-a" as in WAYBILL_SECRET_COURIER_A. */
const char *output_upper(struct arena *arena, const char *source);

/* "3m ago", "in 12s", "now"; in arena. */
struct slice output_age(struct arena *arena, int64_t then_ms, int64_t now_ms);
/* "350ms", "1.2s", "12s", "4m", "3h", "5d"; in arena. */
struct slice output_duration(struct arena *arena, int64_t ms);

/* A table: columns are as wide as their widest cell, the last one is cut at nothing. Cells are views. */
#define OUTPUT_MAX_COLUMNS 10
struct output_table {
    size_t n_columns, n_rows, size;
    struct slice *cells; /* n_rows × n_columns, the heading first */
};
void output_table_add(struct output_table *table, const struct slice *cells); /* n_columns of them */
void output_table_print(const struct output_table *table);
void output_table_free(struct output_table *table);

#endif
