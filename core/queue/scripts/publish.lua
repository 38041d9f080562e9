#!lua flags=allow-oom
-- Adds what an event publishes, acknowledges and deletes its entry. Nothing is published for an entry that is gone.
-- KEYS events, then one stream a message; ARGV group, id, key of the event, then one payload a message.
-- Returns 1 when the entry was there.
local events = KEYS[1]
local group, id, key = ARGV[1], ARGV[2], ARGV[3]

if #redis.call('XRANGE', events, id, id) == 0 then
    redis.call('XACK', events, group, id)
    return 0
end
-- A refusal half-way would leave messages that the next try adds again: look before the first.
for i = 2, #KEYS do
    local kind = redis.call('TYPE', KEYS[i]).ok
    if kind ~= 'none' and kind ~= 'stream' then
        return redis.error_reply('WRONGTYPE ' .. KEYS[i] .. ' is a ' .. kind .. ', not a stream')
    end
end
for i = 2, #KEYS do
    redis.call('XADD', KEYS[i], '*', 'key', key, 'payload', ARGV[i + 2])
end
redis.call('XACK', events, group, id)
redis.call('XDEL', events, id)
return 1
