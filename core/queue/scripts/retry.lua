#!lua flags=allow-oom
-- Moves an entry to the retry set, with the number of its next attempt. (Allowed without free memory: a move, and the way
-- to get rid of events that fail.) The envelope is remembered as a MessagePack list of its fields: exact for any bytes.
-- KEYS events, retry, envelopes; ARGV group, id, key of the event, delay in ms, attempt. Returns 1 when it was there.
local events, retry, envelopes = KEYS[1], KEYS[2], KEYS[3]
local group, id, key, delay_ms, attempt = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local entry = redis.call('XRANGE', events, id, id)[1]
if not entry then
    redis.call('XACK', events, group, id)
    return 0
end

local fields = entry[2]
local at = #fields + 1
for i = 1, #fields, 2 do
    if fields[i] == 'attempt' then
        at = i
    end
end
fields[at], fields[at + 1] = 'attempt', attempt

local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + delay_ms
redis.call('HSET', envelopes, key, cmsgpack.pack(fields))
redis.call('ZADD', retry, string.format('%.0f', due), key)
redis.call('XACK', events, group, id)
redis.call('XDEL', events, id)
return 1
