#!lua flags=allow-oom
-- Removes consumers from the group: the caller, and those not seen for so long. Never one with pending entries, which would
-- go with it and be in nobody's hands. KEYS events; ARGV group, consumer ('' for none), ms unseen. Returns how many went.
local events = KEYS[1]
local group, consumer, unseen_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])

local removed = 0
for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', events, group)) do
    local of = {}
    for i = 1, #info, 2 do
        of[info[i]] = info[i + 1]
    end
    if of.pending == 0 and (of.name == consumer or of.idle >= unseen_ms) then
        redis.call('XGROUP', 'DELCONSUMER', events, group, of.name)
        removed = removed + 1
    end
end
return removed
