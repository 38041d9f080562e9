#!lua
-- Puts an event on the stream; a replay takes the notice of its death away in the same step.
-- KEYS events, dead, dead_index; ARGV key of the event, '1' for a replay, then the envelope's fields. Returns the entry's id.
local events, dead, index = KEYS[1], KEYS[2], KEYS[3]
local key, is_replay = ARGV[1], ARGV[2] == '1'

local id = redis.call('XADD', events, '*', unpack(ARGV, 3))
if is_replay then
    local notice = redis.call('HGET', index, key)
    if notice then
        redis.call('XDEL', dead, notice)
        redis.call('HDEL', index, key)
    end
end
return id
