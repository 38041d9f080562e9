#include "ctl/compose.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"

static const char default_type[] = "parcel.in_transit";

/* White space around a JSON text is not part of it. */
static struct slice trimmed(const char *text)
{
    static const char space[] = " \t\r\n";
    text += strspn(text, space);
    size_t n = strlen(text);
    while (n > 0 && strchr(space, text[n - 1]) != NULL)
        n--;
    return (struct slice){text, n};
}

static bool check_json(const char *name, const char *text, bool object, struct error *err)
{
    if (text == NULL || *text == '\0')
        return true;
    if (!json_check(slice_of(text), err)) {
        error_prefix(err, "--%s", name);
        return false;
    }
    if (object && trimmed(text).base[0] != '{') {
        error_set(err, "--%s: not a JSON object", name);
        return false;
    }
    return true;
}

static void add_text(struct json_writer *w, const char *name, const char *value, const char *fallback)
{
    if (value == NULL)
        value = fallback;
    if (value != NULL && *value != '\0')
        json_member_text(w, name, value);
}

static bool is_object(const char *text)
{
    return text != NULL && trimmed(text).base[0] == '{';
}

static void add_location(struct json_writer *w, const char *location)
{
    if (!is_object(location)) {
        add_text(w, "location", location, NULL);
        return;
    }
    json_name(w, "location");
    json_raw(w, trimmed(location));
}

/* The members of an object, without its braces. */
static void add_members(struct json_writer *w, const char *object)
{
    if (object == NULL || *object == '\0')
        return;
    struct slice text = trimmed(object);
    struct slice members = {text.base + 1, text.len - 2};
    if (members.len > strspn(members.base, " \t\r\n"))
        json_raw(w, members);
}

static void add_data(struct json_writer *w, const struct compose_fields *fields)
{
    char tracking_number[32];
    snprintf(tracking_number, sizeof tracking_number, "WB%09lldGB", (long long)id_random_below(1000000000));
    const char *type = fields->type != NULL ? fields->type : default_type;
    const char *dot = strrchr(type, '.');
    json_name(w, "data");
    json_object_open(w);
    add_text(w, "tracking_number", fields->tracking_number, tracking_number);
    add_text(w, "status", fields->status, dot != NULL ? dot + 1 : NULL);
    add_location(w, fields->location);
    if (fields->simulate != NULL && *fields->simulate != '\0') {
        json_name(w, "simulate");
        json_raw(w, trimmed(fields->simulate));
    }
    add_members(w, fields->data);
    json_object_close(w);
}

bool compose_event(const struct compose_fields *fields, struct buf *out, struct error *err)
{
    if (!check_json("simulate", fields->simulate, false, err) || !check_json("data", fields->data, true, err) ||
        (is_object(fields->location) && !check_json("location", fields->location, true, err)))
        return false;
    char id[ID_TEXT_BYTES], event_id[ID_TEXT_BYTES + 4], occurred_at[CLOCK_TEXT_BYTES];
    snprintf(event_id, sizeof event_id, "evt_%s", id_new(clock_wall(), id));
    struct json_writer w = json_writer(out);
    json_object_open(&w);
    add_text(&w, "event_id", fields->event_id, event_id);
    add_text(&w, "type", fields->type, default_type);
    add_text(&w, "occurred_at", fields->occurred_at, clock_format(clock_wall(), occurred_at));
    add_data(&w, fields);
    json_object_close(&w);
    return true;
}
