#!lua flags=allow-oom
-- Leaves a notice that an event is dead and takes its entry away. A newer notice replaces an older one about the same
-- event; the index finds it without a scan.
-- KEYS events, dead, dead_index; ARGV group, id, key of the event, source, reason. Returns 1 when the entry was there.
local events, dead, index = KEYS[1], KEYS[2], KEYS[3]
local group, id, key, source, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

if #redis.call('XRANGE', events, id, id) == 0 then
    redis.call('XACK', events, group, id)
    return 0
end

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local older = redis.call('HGET', index, key)
local notice = redis.call('XADD', dead, '*', 'key', key, 'source', source, 'reason', reason, 'time', now)
if older then
    redis.call('XDEL', dead, older)
end
redis.call('HSET', index, key, notice)
redis.call('XACK', events, group, id)
redis.call('XDEL', events, id)
return 1
