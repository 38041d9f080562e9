#!lua flags=allow-oom
-- Adds what an event publishes, once, then acknowledges and deletes its entry. The entry is no guard: an event can have a
-- second one (queued again by a reconciler), and its first can be gone (Redis lost it after the commit). A marker for each
-- event is; it goes by itself after a week, long after its entries have.
-- KEYS events, marker, then one stream a message; ARGV group, id, key of the event, then one payload a message.
-- Returns 1 when it published.
local MARKER_SECONDS = 7 * 86400
local events, marker = KEYS[1], KEYS[2]
local group, id, key = ARGV[1], ARGV[2], ARGV[3]

-- A refusal half-way would leave messages that the next try adds again: look before the first.
for i = 3, #KEYS do
    local kind = redis.call('TYPE', KEYS[i]).ok
    if kind ~= 'none' and kind ~= 'stream' then
        return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is a ' .. kind .. ', not a stream')
    end
end
local first = redis.call('SET', marker, id, 'NX', 'EX', MARKER_SECONDS)
if first then
    for i = 3, #KEYS do
        redis.call('XADD', KEYS[i], '*', 'key', key, 'payload', ARGV[i + 1])
    end
end
redis.call('XACK', events, group, id)
redis.call('XDEL', events, id)
return first and 1 or 0
