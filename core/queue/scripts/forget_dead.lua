#!lua flags=allow-oom
-- Removes the notice that an event is dead. KEYS dead, dead_index; ARGV key of the event. Returns 1 when there was one.
local dead, index, key = KEYS[1], KEYS[2], ARGV[1]

local notice = redis.call('HGET', index, key)
if not notice then
    return 0
end
redis.call('XDEL', dead, notice)
redis.call('HDEL', index, key)
return 1
