#include "ctl/ctl.h"
const struct command status_commands[] = {{0}};
const struct command events_commands[] = {{0}};
const struct command dlq_commands[] = {{0}};
const struct command reload_commands[] = {{0}};
const struct command check_commands[] = {{0}};
