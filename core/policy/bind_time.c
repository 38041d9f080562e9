/* time: wall time in milliseconds since 1970, and its text form. */
#include <math.h>

#include "policy/state.h"

#define MIN_TEXT_MS INT64_C(-62135596800000) /* 0001-01-01 */
#define MAX_TEXT_MS INT64_C(253402300799999) /* 9999-12-31 */

static int script_now_ms(lua_State *L)
{
    lua_pushinteger(L, clock_wall().ms);
    return 1;
}

static int script_parse(lua_State *L)
{
    struct slice text = {0};
    wall_time time;
    if (lua_type(L, 1) == LUA_TSTRING)
        text.base = lua_tolstring(L, 1, &text.len);
    if (text.base != NULL && clock_parse(text, &time))
        lua_pushinteger(L, time.ms);
    else
        luaL_pushfail(L);
    return 1;
}

static int script_format(lua_State *L)
{
    lua_Number ms = luaL_checknumber(L, 1);
    luaL_argcheck(L, ms >= (lua_Number)MIN_TEXT_MS && ms <= (lua_Number)MAX_TEXT_MS, 1,
                  "not between the years 1 and 9999");
    char text[CLOCK_TEXT_BYTES];
    lua_pushstring(L, clock_format((wall_time){(int64_t)floor(ms)}, text));
    return 1;
}

/* Who asks for more than is left waits until the deadline and gets the time limit error. Otherwise what was asked for
 * counts: that it took longer is the machine's doing (it was crowded, or the process was stopped). */
static int script_sleep_ms(lua_State *L)
{
    struct policy *policy = policy_of(L);
    lua_Number asked = luaL_checknumber(L, 1);
    if (policy->options.role != POLICY_WORKER)
        return luaL_error(L, "time.sleep_ms is not there in validate.lua: other requests would wait too");
    luaL_argcheck(L, asked >= 0, 1, "cannot sleep for less than nothing");
    int64_t left = sandbox_remaining_ms(policy) + 1;
    bool fits = asked < (lua_Number)left;
    int64_t ms = fits ? (int64_t)asked : left;
    mono_time from = clock_mono();
    clock_sleep_ms(ms);
    if (fits)
        sandbox_excuse_delay(policy, mono_after_ms(from, ms));
    else
        sandbox_check_deadline(L);
    return 0;
}

void bind_time(lua_State *L)
{
    static const luaL_Reg functions[] = {{"now_ms", script_now_ms},
                                         {"parse", script_parse},
                                         {"format", script_format},
                                         {"sleep_ms", script_sleep_ms},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    globals_add_library(L, "time");
}
