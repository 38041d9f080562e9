#include "base/secrets.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

extern char **environ;

struct list {
    struct config_secret *items;
    size_t n;
};

static const char secret_prefix[] = "WAYBILL_SECRET_";

bool secrets_is_variable(const char *name, size_t len)
{
    return len > sizeof secret_prefix - 1 && memcmp(name, secret_prefix, sizeof secret_prefix - 1) == 0;
}

char *secrets_read_file(const char *variable, const char *path, struct error *err)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        error_set(err, "%s: cannot open '%s': %s", variable, path, strerror(errno));
        return NULL;
    }
    size_t size = 65536;
    char *text = memory_alloc(size);
    size_t len = fread(text, 1, size - 1, file);
    bool bad = ferror(file) != 0 || len == size - 1 || memchr(text, '\0', len) != NULL;
    fclose(file);
    while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL)
        text[--len] = '\0';
    if (!bad && len > 0)
        return text;
    error_set(err, "%s: '%s' is %s", variable, path, len == 0 ? "empty" : "not a text file of at most 64 KiB");
    memory_wipe(text, size);
    free(text);
    return NULL;
}

static bool is_secret_name(const char *name, size_t len)
{
    if (len == 0 || len > 64)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'))
            return false;
    }
    return true;
}

/* Adds a secret under the lower-case name; a source given twice (variable and file) is a contradiction. */
static bool add_secret(struct list *list, const char *name, size_t len, const char *values, struct error *err)
{
    if (!is_secret_name(name, len)) {
        error_set(err, "%s%.*s: the name of a source must be upper-case letters, digits and _", secret_prefix, (int)len,
                  name);
        return false;
    }
    if (values[strspn(values, " \t\r\n")] == '\0') {
        error_set(err, "%s%.*s is empty", secret_prefix, (int)len, name);
        return false;
    }
    char *source = memory_alloc(len + 1);
    for (size_t i = 0; i < len; i++)
        source[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] | 32 : name[i]);
    for (size_t i = 0; i < list->n; i++) {
        if (strcmp(list->items[i].source, source) == 0) {
            error_set(err, "%s%.*s is given twice (as a variable and as a file)", secret_prefix, (int)len, name);
            free(source);
            return false;
        }
    }
    list->items = memory_resize(list->items, (list->n + 1) * sizeof *list->items);
    list->items[list->n++] = (struct config_secret){source, memory_strdup(values)};
    return true;
}

static bool ends_in_file(const char *name, size_t len)
{
    return len > 5 && memcmp(name + len - 5, "_FILE", 5) == 0;
}

static bool take_variable(struct list *list, const char *variable, size_t len, const char *value, struct error *err)
{
    const char *name = variable + sizeof secret_prefix - 1;
    size_t name_len = len - (sizeof secret_prefix - 1);
    if (!ends_in_file(name, name_len))
        return add_secret(list, name, name_len, value, err);
    char label[128];
    snprintf(label, sizeof label, "%.*s", (int)len, variable);
    char *text = secrets_read_file(label, value, err);
    if (text == NULL)
        return false;
    bool good = add_secret(list, name, name_len - 5, text, err);
    memory_wipe(text, strlen(text));
    free(text);
    return good;
}

bool secrets_read(struct config_secret **secrets, size_t *n, struct error *err)
{
    struct list list = {0};
    bool good = true;
    for (char **entry = environ; good && entry != NULL && *entry != NULL; entry++) {
        size_t len = strcspn(*entry, "=");
        if ((*entry)[len] == '=' && secrets_is_variable(*entry, len))
            good = take_variable(&list, *entry, len, *entry + len + 1, err);
    }
    if (!good) {
        secrets_free(list.items, list.n);
        list = (struct list){0};
    }
    *secrets = list.items;
    *n = list.n;
    return good;
}

void secrets_free(struct config_secret *secrets, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        memory_wipe(secrets[i].values, strlen(secrets[i].values));
        free(secrets[i].values);
        free(secrets[i].source);
    }
    free(secrets);
}
