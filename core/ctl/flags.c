#include "ctl/flags.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The flag that word names, and where its "=value" starts (NULL when there is none). */
static const struct flag *find_flag(const struct flag *flags, const char *word, const char **value)
{
    if (strncmp(word, "--", 2) != 0)
        return NULL;
    size_t length = strcspn(word + 2, "=");
    *value = word[2 + length] == '=' ? word + 2 + length + 1 : NULL;
    for (; flags->name != NULL; flags++)
        if (strlen(flags->name) == length && strncmp(flags->name, word + 2, length) == 0)
            return flags;
    return NULL;
}

static bool parse_count(const struct flag *flag, const char *text, int64_t *out, struct error *err)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) {
        error_set(err, "--%s: \"%s\" is not a whole number of 0 or more", flag->name, text);
        return false;
    }
    *out = value;
    return true;
}

static bool store_value(const struct flag *flag, void *options, const char *value, struct error *err)
{
    void *target = (char *)options + flag->offset;
    if (flag->kind == FLAG_COUNT)
        return parse_count(flag, value, target, err);
    *(const char **)target = value;
    return true;
}

static bool take_one(const struct flag *flag, void *options, const char *value, int *next, int argc, char **argv,
                     struct error *err)
{
    if (flag->kind == FLAG_SWITCH) {
        if (value != NULL) {
            error_set(err, "--%s takes no value", flag->name);
            return false;
        }
        *(bool *)((char *)options + flag->offset) = true;
        return true;
    }
    if (value == NULL) {
        if (*next >= argc) {
            error_set(err, "--%s needs a value: %s", flag->name, flag->value);
            return false;
        }
        value = argv[(*next)++];
    }
    return store_value(flag, options, value, err);
}

bool flags_take(const struct flag *flags, void *options, int *argc, char **argv, struct error *err)
{
    int kept = 0;
    for (int i = 0; i < *argc;) {
        const char *value = NULL;
        const struct flag *flag = find_flag(flags, argv[i], &value);
        if (flag == NULL) {
            argv[kept++] = argv[i++];
            continue;
        }
        i++;
        if (!take_one(flag, options, value, &i, *argc, argv, err))
            return false;
    }
    argv[kept] = NULL;
    *argc = kept;
    return true;
}

void flags_print(FILE *out, const struct flag *flags)
{
    for (; flags->name != NULL; flags++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", flags->name, flags->value == NULL ? "" : " ",
                 flags->value == NULL ? "" : flags->value);
        fprintf(out, "  %-28s %s\n", left, flags->help);
    }
}
