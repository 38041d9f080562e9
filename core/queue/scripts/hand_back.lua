#!lua flags=allow-oom
-- Gives entries back untouched: idle since ever, so that the next reclaim takes them whatever its lease, and with this
-- delivery off the count.
-- KEYS events; ARGV group, consumer, then ids; without ids, all that the consumer has. Returns how many were still its own.
local events = KEYS[1]
local group, consumer = ARGV[1], ARGV[2]

local function give_back(pending)
    local id, deliveries = pending[1], math.max(pending[4] - 1, 0)
    redis.call('XCLAIM', events, group, consumer, 0, id, 'TIME', 0, 'RETRYCOUNT', deliveries, 'JUSTID')
end

local function of_consumer(first, last, count)
    return redis.call('XPENDING', events, group, first, last, count, consumer)
end

local returned = #ARGV == 2 and of_consumer('-', '+', 10000) or {}
for i = 3, #ARGV do
    returned[#returned + 1] = of_consumer(ARGV[i], ARGV[i], 1)[1]
end
for _, pending in ipairs(returned) do
    give_back(pending)
end
return #returned
