#!lua flags=allow-oom
-- Gives entries back untouched: idle since ever, so that the next reclaim takes them whatever its lease, and with this
-- delivery off the count. KEYS events; ARGV group, consumer, ids. Returns how many were still the consumer's own.
local events = KEYS[1]
local group, consumer = ARGV[1], ARGV[2]

local returned = 0
for i = 3, #ARGV do
    local pending = redis.call('XPENDING', events, group, ARGV[i], ARGV[i], 1, consumer)[1]
    if pending then
        local deliveries = math.max(pending[4] - 1, 0)
        redis.call('XCLAIM', events, group, consumer, 0, ARGV[i], 'TIME', 0, 'RETRYCOUNT', deliveries, 'JUSTID')
        returned = returned + 1
    end
end
return returned
