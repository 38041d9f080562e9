-- Failures to order, for demos, tests and load tests: an event may ask for them in data.simulate. Only with
-- WAYBILL_SIMULATE=1; in production this does nothing.
--
--   {"delay_ms": 200}                  takes 200 ms longer (before any failure below)
--   {"fail": "transient", "times": 3}  fails the first three attempts of a life, then succeeds. A replay begins a new life.
--   {"fail": "permanent"}              fails each attempt
--   {"fail": "permanent", "until_replay": true}   fails until somebody replays the dead letter, as if mended by then
--   {"fail": "error"}                  throws
--   {"fail": "loop"}                   never ends: the time limit stops it
--   {"fail": "memory"}                 takes memory without end: the memory limit stops it

local function loop_for_ever()
    local n = 0
    while true do
        n = n + 1
    end
end

local function take_all_memory()
    local hoard = {}
    while true do
        hoard[#hoard + 1] = ("x"):rep(1000) .. #hoard
    end
end

local failures = {
    transient = function(order, _, ctx)
        local times = type(order.times) == "number" and order.times or 1
        if ctx.failures < times then
            error(fail.transient("simulated transient failure", { kind = "simulated" }))
        end
    end,
    permanent = function(order, event)
        if not (order.until_replay == true and event.replay) then
            error(fail.permanent("simulated permanent failure", { kind = "simulated" }))
        end
    end,
    error = function()
        error("simulated error")
    end,
    loop = loop_for_ever,
    memory = take_all_memory,
}

return function(event, ctx, body)
    local order = waybill.simulate and type(body.data) == "table" and body.data.simulate
    if type(order) ~= "table" then
        return
    end
    if type(order.delay_ms) == "number" and order.delay_ms > 0 then
        time.sleep_ms(order.delay_ms)
    end
    local act = failures[order.fail]
    if act then
        act(order, event, ctx)
    end
end
