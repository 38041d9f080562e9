/* Lua patterns, matched under the call's deadline: the standard library's matcher is C that no hook interrupts, and a
 * short pattern can keep it busy for hours. Same language and results (Lua 5.4 manual, section 6.4.1). */
#ifndef POLICY_PATTERN_H
#define POLICY_PATTERN_H

#include "policy/state.h"

#define PATTERN_MAX_CAPTURES 32

struct pattern_capture {
    const char *start;
    ptrdiff_t len; /* or one of the marks below */
};
#define CAPTURE_OPEN     (-1)
#define CAPTURE_POSITION (-2)

struct pattern {
    lua_State *L;
    struct slice subject, text;
    int n_captures;
    int depth; /* of recursion */
    struct pattern_capture captures[PATTERN_MAX_CAPTURES];
};

/* Matches text from `from` (within subject): the end of the match, or NULL. text is without a leading anchor. Raises.
 */
const char *pattern_match(struct pattern *pattern, const char *from);
/* Pushes capture i; when there are none, 0 is the whole match [from, to). Raises. */
void pattern_push_capture(struct pattern *pattern, int i, const char *from, const char *to);
/* Pushes all captures, or the whole match when there are none (whole) or nothing (not whole); returns how many. */
int pattern_push_captures(struct pattern *pattern, bool whole, const char *from, const char *to);

/* Puts our find, match, gmatch and gsub into the string library at the top of the stack. Raises. */
void pattern_open(lua_State *L);

#endif
