-- What the shipped retry policy decides.

local retry_policy = require("retry_policy")

local ctx = { schedule = { base_ms = 1000, factor = 2, cap_ms = 300000, attempts = 8 } }

local function decide(outcome, kind, failures)
    return retry_policy({ outcome = outcome, kind = kind, failures = failures, source = "demo" }, ctx)
end

return {
    {
        name = "permanent failures are not tried again",
        run = function()
            assert(decide("permanent", "unknown_type", 1).reason == "permanent_failure")
        end,
    },
    {
        name = "others follow the settings",
        run = function()
            local decision = decide("transient", "transient", 1)
            assert(decision.delay_ms == nil and decision.reason == nil)
        end,
    },
    {
        name = "a partner that counts our calls is given time",
        run = function()
            assert(decide("transient", "rate_limited", 19).delay_ms <= 600000)
            assert(decide("transient", "rate_limited", 20).reason == "retries_exhausted")
        end,
    },
}
