/* Printing one record of the store for a person: an event or a dead letter with its attempts and its body. */
#ifndef CTL_RECORD_H
#define CTL_RECORD_H

#include "base/memory.h"
#include "ctl/backends.h"
#include "ctl/json_read.h"

/* A line "  label       value", nothing when the value is empty. */
void record_line(const char *label, struct slice value);
/* The same for a time, with its age. */
void record_time(struct arena *arena, const char *label, const struct json_value *time);
/* The table of attempts, with the delays that were chosen. */
void record_attempts(struct arena *arena, const struct json_value *attempts);
/* The body as it came (base64 when it is no text), last. */
void record_body(const struct json_value *record);

/* The whole of "show KEY": reads one record of the store and prints it, for people or as the JSON that it is. */
typedef enum store_result record_reader(struct store_client *client, struct slice key, struct buf *out,
                                        struct error *err);
typedef void record_printer(struct arena *arena, const char *key, const struct json_value *record);
enum ctl_exit record_show(struct ctl *ctl, const char *key, bool json, record_reader *read, record_printer *print);

#endif
