#include "base/log.h"

#include <stdio.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"

/* Set once at start-up, before threads; read-only afterwards. */
static struct {
    const char *service;
    enum log_level level;
    enum log_format format;
} settings = {"waybill", LOG_INFO, LOG_TEXT};

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_open(const char *service, enum log_level level, enum log_format format)
{
    settings.service = service;
    settings.level = level;
    settings.format = format;
}

bool log_enabled(enum log_level level)
{
    return level >= settings.level;
}

static void add_json(struct buf *line, const char *when, enum log_level level, const char *message,
                     const struct log_field *fields)
{
    struct json_writer w = json_writer(line);
    json_object_open(&w);
    json_member_text(&w, "time", when);
    json_member_text(&w, "level", level_names[level]);
    json_member_text(&w, "service", settings.service);
    json_member_text(&w, "message", message);
    for (const struct log_field *f = fields; f->name != NULL; f++) {
        if (f->is_number)
            json_member_int(&w, f->name, f->number);
        else
            json_member_string(&w, f->name, f->text);
    }
    json_object_close(&w);
}

static bool is_plain(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.base[i];
        if (c <= ' ' || c == '"' || c == '=' || c >= 0x7f)
            return false;
    }
    return text.len > 0;
}

/* As it is when it is one word, else quoted: a name may be a sender's as well, and no line may be forged with it. */
static void add_word(struct buf *line, struct slice text)
{
    if (is_plain(text))
        buf_add_slice(line, text);
    else
        json_add_string(line, text);
}

static void add_text(struct buf *line, const char *when, enum log_level level, const char *message,
                     const struct log_field *fields)
{
    buf_printf(line, "%s %-5s %s: %s", when, level_names[level], settings.service, message);
    for (const struct log_field *f = fields; f->name != NULL; f++) {
        buf_add_char(line, ' ');
        add_word(line, slice_of(f->name));
        buf_add_char(line, '=');
        if (f->is_number)
            buf_printf(line, "%lld", (long long)f->number);
        else
            add_word(line, f->text);
    }
}

void log_write(enum log_level level, const char *message, const struct log_field *fields)
{
    struct buf line = {0};
    char when[CLOCK_TEXT_BYTES];
    clock_format(clock_wall(), when);
    if (settings.format == LOG_JSON)
        add_json(&line, when, level, message, fields);
    else
        add_text(&line, when, level, message, fields);
    buf_add_char(&line, '\n');
    ssize_t ignored = write(STDERR_FILENO, line.data, line.len); /* nobody is left to tell when this fails */
    (void)ignored;
    buf_free(&line);
}

bool log_gate_open(struct log_gate *gate, int64_t every_ms, uint64_t *skipped)
{
    int64_t now_us = clock_mono().us;
    if (now_us < gate->next_us) {
        gate->skipped++;
        return false;
    }
    *skipped = gate->skipped;
    gate->skipped = 0;
    gate->next_us = now_us + every_ms * 1000;
    return true;
}
