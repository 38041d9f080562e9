#!lua flags=allow-oom
-- Takes over entries whose owner gave no sign of life for a lease; each such delivery counts.
-- KEYS events; ARGV group, consumer, lease in ms, most entries. Returns {id, deliveries, fields} for each.
local events = KEYS[1]
local group, consumer, lease, count = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

-- Who waits for work is known as well: a server only takes note of consumers that get some.
redis.call('XGROUP', 'CREATECONSUMER', events, group, consumer)
local idle = redis.call('XPENDING', events, group, 'IDLE', lease, '-', '+', count)
local taken = {}
for _, pending in ipairs(idle) do
    local id, deliveries = pending[1], pending[4]
    -- An entry that is no longer in the stream goes from the pending list here and returns nothing.
    local claimed = redis.call('XCLAIM', events, group, consumer, lease, id)
    if claimed[1] then
        taken[#taken + 1] = {id, deliveries + 1, claimed[1][2]}
    end
end
return taken
