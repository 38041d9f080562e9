/* waybillctl: the command line of operators and integration engineers. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "ctl/ctl.h"
#include "ctl/output.h"

static const struct command *const groups[] = {send_commands, status_commands, events_commands,
                                               dlq_commands,  reload_commands, check_commands};

void ctl_complain(const char *sentence)
{
    fflush(stdout);
    fprintf(stderr, "waybillctl: %s\n", sentence);
}

static void print_error_json(const char *sentence)
{
    struct buf line = {0};
    struct json_writer w = json_writer(&line);
    json_object_open(&w);
    json_member_text(&w, "error", sentence);
    json_object_close(&w);
    output_line(&line);
    buf_free(&line);
}

enum ctl_exit ctl_fail(const struct ctl *ctl, enum ctl_exit code, const char *format, ...)
{
    char sentence[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    ctl_complain(sentence);
    if (ctl->json)
        print_error_json(sentence);
    return code;
}

/* How many of the words are the command's name; 0 when it is another. */
static int name_words(const struct command *command, int argc, char **argv)
{
    char two[128];
    if (argc > 0 && strcmp(command->name, argv[0]) == 0)
        return 1;
    if (argc < 2)
        return 0;
    snprintf(two, sizeof two, "%s %s", argv[0], argv[1]);
    return strcmp(command->name, two) == 0 ? 2 : 0;
}

static const struct command *find_command(int argc, char **argv, int *words)
{
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        for (const struct command *command = groups[i]; command->name != NULL; command++)
            if ((*words = name_words(command, argc, argv)) > 0)
                return command;
    return NULL;
}

static void print_command(const struct command *command, int width)
{
    char left[64];
    snprintf(left, sizeof left, "%s %s", command->name, command->arguments);
    for (const char *c = left; *c != '\0'; c++)
        width += ((unsigned char)*c & 0xc0) == 0x80; /* bytes that take no column of their own */
    printf("  %-*s %s\n", width, left, command->summary);
}

static void print_help(void)
{
    puts("Usage: waybillctl COMMAND [ARGUMENT …] [--FLAG VALUE …]\n");
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        for (const struct command *command = groups[i]; command->name != NULL; command++)
            print_command(command, 22);
    puts("  version                print the version\n"
         "  help [COMMAND]         this, or a command's flags\n\n"
         "A KEY is SOURCE/EVENT_ID, as in \"demo/evt_01\". --json prints JSON for programs.\n\n"
         "Exit codes: 0 ok; 1 what was asked about is not good (event refused, check failed, not ready);\n"
         "2 wrong words, flags or settings; 3 a service cannot be reached; 4 not found.\n");
    config_print_help(stdout, CONFIG_CTL);
}

static void print_command_help(const struct command *command)
{
    printf("Usage: waybillctl %s %s%s[--FLAG VALUE …]\n\n%s\n\n", command->name, command->arguments,
           *command->arguments == '\0' ? "" : " ", command->summary);
    if (command->details != NULL)
        printf("%s\n", command->details);
    flags_print(stdout, command->flags);
    puts("\nAddresses and secrets are settings: see `waybillctl help`.");
}

/* Every word or flag that nobody took is a mistake of the user's; the command must not run as if it were not there. */
static bool check_words(const struct command *command, int argc, char **argv, struct error *err)
{
    for (int i = 0; i < argc; i++) {
        if (argv[i][0] != '-' || argv[i][1] == '\0')
            continue;
        error_set(err, "%s does not know the flag %s (see `waybillctl help %s`)", command->name, argv[i],
                  command->name);
        return false;
    }
    if (argc >= command->min_arguments && argc <= command->max_arguments)
        return true;
    if (argc > command->max_arguments)
        error_set(err, "\"%s\" is one word too many", argv[command->max_arguments]);
    else
        error_set(err, "usage: waybillctl %s %s", command->name, command->arguments);
    return false;
}

static bool has_word(int argc, char **argv, const char *word)
{
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], word) == 0)
            return true;
    return false;
}

/* For options that were read; where they cannot be, the word itself must do. */
static bool wants_json(const struct command *command, const void *options)
{
    for (const struct flag *flag = command->flags; flag->name != NULL; flag++)
        if (strcmp(flag->name, "json") == 0)
            return *(const bool *)((const char *)options + flag->offset);
    return false;
}

/* argv[0] is the name of the program, what follows belongs to the command. */
static enum ctl_exit run_command(const struct command *command, int argc, char **argv)
{
    struct ctl ctl = {.arena = arena_new(), .json = has_word(argc, argv, "--json")};
    void *options = memory_alloc(command->options_size);
    struct error err;
    enum ctl_exit exit_code;
    bool good = flags_take(command->flags, options, &argc, argv, &err);
    if (good)
        ctl.json = wants_json(command, options);
    if (!good || config_load(&ctl.config, CONFIG_CTL, &argc, argv, &err) != CONFIG_OK ||
        !check_words(command, argc - 1, argv + 1, &err)) {
        exit_code = ctl_fail(&ctl, CTL_USAGE, "%s", err.text);
    } else {
        log_open("waybillctl", LOG_ERROR, ctl.config.log_format); /* commands say themselves what matters */
        exit_code = command->run(&ctl, options, argc - 1, argv + 1);
    }
    free(options);
    arena_free(ctl.arena);
    config_free(&ctl.config);
    return exit_code;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

static bool wants_help(int argc, char **argv)
{
    return has_word(argc, argv, "--help") || has_word(argc, argv, "-h");
}

/* The group whose commands are "word …"; NULL when there is none. */
static const struct command *find_group(const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        if (groups[i]->name != NULL && strncmp(groups[i]->name, word, n) == 0 && groups[i]->name[n] == ' ')
            return groups[i];
    return NULL;
}

static void print_group_help(const char *word, const struct command *command)
{
    printf("waybillctl %s …:\n", word);
    for (; command->name != NULL; command++)
        print_command(command, 22);
    printf("\nThe flags of one: waybillctl help %s …\n", word);
}

/* The words name no command: the first may name a group of them. */
static enum ctl_exit no_command(int argc, char **argv, bool help)
{
    const struct ctl ctl = {.json = has_word(argc, argv, "--json")};
    const struct command *group = find_group(argv[0]);
    bool alone = argc == 1 || argv[1][0] == '-';
    if (group != NULL && !ctl.json) {
        print_group_help(argv[0], group);
        return help && alone ? CTL_OK : CTL_USAGE;
    }
    return ctl_fail(&ctl, CTL_USAGE, "there is no command \"%s%s%s\": `waybillctl help` lists them", argv[0],
                    alone ? "" : " ", alone ? "" : argv[1]);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN); /* a server that goes away is an error to tell, not an end */
    bool help = argc < 2 || is_help(argv[1]);
    int words = 0;
    if (argc >= 2 && (strcmp(argv[1], "version") == 0 || strcmp(argv[1], "--version") == 0)) {
        printf("waybillctl %s\n", WAYBILL_VERSION);
        return CTL_OK;
    }
    if (argc < 2 || (help && argc == 2)) {
        print_help();
        return argc < 2 ? CTL_USAGE : CTL_OK;
    }
    int skip = help ? 2 : 1;
    const struct command *command = find_command(argc - skip, argv + skip, &words);
    help = help || wants_help(argc - skip, argv + skip);
    if (command == NULL)
        return (int)no_command(argc - skip, argv + skip, help);
    if (help) {
        print_command_help(command);
        return CTL_OK;
    }
    argv[words] = argv[0];
    return (int)run_command(command, argc - words, argv + words);
}
