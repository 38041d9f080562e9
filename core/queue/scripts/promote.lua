#!lua flags=allow-oom
-- Moves what is due from the retry set to the stream, in the order of due times, at most so many entries and so many
-- bytes a call: other clients wait meanwhile.
-- KEYS events, retry, envelopes; ARGV most entries, most bytes.
-- Returns moved, ms until the next is due (-1: none), members that had no envelope.
local events, retry, envelopes = KEYS[1], KEYS[2], KEYS[3]
local limit, bytes_left = ARGV[1], tonumber(ARGV[2])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- What cannot be read is delivered as it is: the worker finds it malformed and dead-letters it.
local function fields_of(packed)
    local ok, fields = pcall(cmsgpack.unpack, packed)
    if ok and type(fields) == 'table' and #fields > 0 and #fields % 2 == 0 then
        return fields
    end
    return {'unreadable', packed}
end

local moved, orphans = 0, 0
for _, key in ipairs(redis.call('ZRANGEBYSCORE', retry, '-inf', string.format('%.0f', now), 'LIMIT', 0, limit)) do
    if bytes_left <= 0 then
        break
    end
    local packed = redis.call('HGET', envelopes, key)
    if packed then
        redis.call('XADD', events, '*', unpack(fields_of(packed)))
        redis.call('HDEL', envelopes, key)
        bytes_left = bytes_left - #packed
        moved = moved + 1
    else
        orphans = orphans + 1
    end
    redis.call('ZREM', retry, key)
end

local first = redis.call('ZRANGE', retry, 0, 0, 'WITHSCORES')
local next_ms = first[2] and math.max(tonumber(first[2]) - now, 0) or -1
return {moved, next_ms, orphans}
