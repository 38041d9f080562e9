#!lua flags=no-writes
-- How much there is in one partition. KEYS events, retry, dead; ARGV group.
-- Returns entries, pending, waiting for retry, dead notices, age of the oldest entry in ms (0: none), consumers.
local events, retry, dead, group = KEYS[1], KEYS[2], KEYS[3], ARGV[1]

local pending, consumers = 0, 0
if redis.call('EXISTS', events) == 1 then
    for _, info in ipairs(redis.call('XINFO', 'GROUPS', events)) do
        local of = {}
        for i = 1, #info, 2 do
            of[info[i]] = info[i + 1]
        end
        if of.name == group then
            pending, consumers = of.pending, of.consumers
        end
    end
end

local oldest_ms = 0
local oldest = redis.call('XRANGE', events, '-', '+', 'COUNT', 1)[1]
if oldest then
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    oldest_ms = math.max(now - tonumber(oldest[1]:match('^%d+')), 0)
end

return {
    redis.call('XLEN', events), pending, redis.call('ZCARD', retry), redis.call('XLEN', dead), oldest_ms, consumers,
}
