-- What each kind of Lua file may use. The policies' globals are those of docs/lua-api.md: a name that is missing here is
-- missing there too.

std = "lua54"
max_line_length = 120
max_comment_line_length = 140

local safe_lua = {
    "_VERSION", "assert", "error", "getmetatable", "ipairs", "load", "math", "next", "pairs", "pcall", "print", "rawequal",
    "rawget", "rawlen", "rawset", "require", "select", "setmetatable", "string", "table", "tonumber", "tostring", "type",
    "utf8", "xpcall",
}
local waybill_api = {
    "accept", "backoff", "crypto", "dead", "default", "fail", "http", "json", "log", "metrics", "mongo", "reject", "retry",
    "secrets", "snooze", "time", "waybill",
}

local policies = {}
for _, list in ipairs { safe_lua, waybill_api } do
    for _, name in ipairs(list) do
        policies[#policies + 1] = name
    end
end
stds.waybill = { read_globals = policies }

files["scripts"] = { std = "waybill" }
files["tests/system/scripts"] = { std = "waybill" }

-- LuaJIT runs these, in nginx and in wrk.
files["bench/peers/nginx"] = { std = "ngx_lua" }
files["bench/peers/fire.lua"] = { std = "luajit", globals = { "init", "request", "done" } }

-- Redis runs these: Lua 5.1 with its own globals.
files["core/queue/scripts"] = { std = "lua51", read_globals = { "ARGV", "KEYS", "cjson", "cmsgpack", "redis" } }
