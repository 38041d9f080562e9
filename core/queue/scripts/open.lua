#!lua flags=allow-oom
-- Makes what is missing of one partition. Without its group, Redis has lost (some of) what it had: the group starts at the
-- stream's beginning, so that whatever is left is delivered, and the epoch is renewed, so that the reconciler looks for
-- what is not.
-- KEYS events, epoch; ARGV group, a fresh epoch. Returns the epoch in force.
local events, epoch = KEYS[1], KEYS[2]
local group, fresh = ARGV[1], ARGV[2]

local function has_group()
    if redis.call('EXISTS', events) == 0 then
        return false
    end
    for _, info in ipairs(redis.call('XINFO', 'GROUPS', events)) do
        for i = 1, #info, 2 do
            if info[i] == 'name' and info[i + 1] == group then
                return true
            end
        end
    end
    return false
end

if not has_group() then
    redis.call('XGROUP', 'CREATE', events, group, '0', 'MKSTREAM')
    redis.call('SET', epoch, fresh)
elseif redis.call('EXISTS', epoch) == 0 then
    redis.call('SET', epoch, fresh)
end
return redis.call('GET', epoch)
