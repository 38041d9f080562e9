#!lua flags=allow-oom
-- Acknowledges and deletes entries. KEYS events; ARGV group, ids. Returns how many were there.
local events, group = KEYS[1], ARGV[1]

local CHUNK = 500 -- unpack is limited by Lua's stack
local dropped = 0
for first = 2, #ARGV, CHUNK do
    local last = math.min(first + CHUNK - 1, #ARGV)
    redis.call('XACK', events, group, unpack(ARGV, first, last))
    dropped = dropped + redis.call('XDEL', events, unpack(ARGV, first, last))
end
return dropped
