#!lua flags=allow-oom
-- A sign of life for entries, each only while it is the consumer's own: one that stalled and was replaced must not steal
-- back. KEYS events; ARGV group, consumer, ids. Returns the positions (from 1) of those that it has lost.
local events = KEYS[1]
local group, consumer = ARGV[1], ARGV[2]

local lost = {}
for i = 3, #ARGV do
    local mine = #redis.call('XPENDING', events, group, ARGV[i], ARGV[i], 1, consumer) > 0
    if not mine or #redis.call('XCLAIM', events, group, consumer, 0, ARGV[i], 'JUSTID') == 0 then
        lost[#lost + 1] = i - 2
    end
end
return lost
