/* crypto: what signatures are made of. Strings of bytes in and out.
 *
 * The time limit's hook counts instructions of Lua, and one call here may work on megabytes: so each call looks at the
 * clock itself before it begins. */
#include "base/crypto.h"
#include "policy/state.h"

#define MAX_PARTS 16

static struct slice check_slice(lua_State *L, int index)
{
    struct slice bytes;
    luaL_checktype(L, index, LUA_TSTRING); /* a number is not taken for a string */
    bytes.base = lua_tolstring(L, index, &bytes.len);
    return bytes;
}

static struct buf *empty_scratch(lua_State *L)
{
    struct buf *scratch = &policy_of(L)->scratch;
    sandbox_check_work(L);
    buf_clear(scratch);
    return scratch;
}

static int push_scratch(lua_State *L)
{
    const struct buf *scratch = &policy_of(L)->scratch;
    lua_pushlstring(L, scratch->len == 0 ? "" : scratch->data, scratch->len);
    return 1;
}

static int script_hmac_sha256(lua_State *L)
{
    struct slice key = check_slice(L, 1), parts[MAX_PARTS];
    int n = lua_gettop(L) - 1;
    luaL_argcheck(L, n <= MAX_PARTS, n, "at most 16 parts");
    for (int i = 0; i < n; i++)
        parts[i] = check_slice(L, i + 2);
    unsigned char mac[CRYPTO_SHA256_BYTES];
    sandbox_check_work(L);
    crypto_hmac_sha256(key, parts, (size_t)n, mac);
    lua_pushlstring(L, (const char *)mac, sizeof mac);
    return 1;
}

static int script_sha256(lua_State *L)
{
    unsigned char digest[CRYPTO_SHA256_BYTES];
    sandbox_check_work(L);
    crypto_sha256(check_slice(L, 1), digest);
    lua_pushlstring(L, (const char *)digest, sizeof digest);
    return 1;
}

static int script_ed25519_verify(lua_State *L)
{
    sandbox_check_work(L);
    lua_pushboolean(L, crypto_ed25519_verify(check_slice(L, 1), check_slice(L, 2), check_slice(L, 3)));
    return 1;
}

static int script_equal(lua_State *L)
{
    sandbox_check_work(L);
    lua_pushboolean(L, crypto_equal(check_slice(L, 1), check_slice(L, 2)));
    return 1;
}

static int script_base64_encode(lua_State *L)
{
    crypto_base64_encode(check_slice(L, 1), empty_scratch(L));
    return push_scratch(L);
}

static int script_base64_decode(lua_State *L)
{
    if (crypto_base64_decode(check_slice(L, 1), lua_toboolean(L, 2), empty_scratch(L)))
        return push_scratch(L);
    luaL_pushfail(L);
    return 1;
}

static int script_hex_encode(lua_State *L)
{
    crypto_hex_encode(check_slice(L, 1), empty_scratch(L));
    return push_scratch(L);
}

static int script_hex_decode(lua_State *L)
{
    if (crypto_hex_decode(check_slice(L, 1), empty_scratch(L)))
        return push_scratch(L);
    luaL_pushfail(L);
    return 1;
}

void bind_crypto(lua_State *L)
{
    static const luaL_Reg functions[] = {{"hmac_sha256", script_hmac_sha256},
                                         {"sha256", script_sha256},
                                         {"ed25519_verify", script_ed25519_verify},
                                         {"equal", script_equal},
                                         {"base64_encode", script_base64_encode},
                                         {"base64_decode", script_base64_decode},
                                         {"hex_encode", script_hex_encode},
                                         {"hex_decode", script_hex_decode},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    globals_add_library(L, "crypto");
}
