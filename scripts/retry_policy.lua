-- The worker asks this after each failed attempt: again, and when, or never?
-- failure.failures counts this failure too. default() is the schedule of the settings (WAYBILL_RETRY_…).

-- Exceptions from the settings' schedule, by the kind that process.lua gave to fail.transient.
local BY_KIND <const> = {
    -- A partner that counts our calls needs longer pauses, and many of them.
    rate_limited = { base_ms = 5000, factor = 2, cap_ms = 600000, attempts = 20 },
}

-- And by source, for a partner whose systems are known to be away at night, say:
--     acme = { base_ms = 60000, factor = 2, cap_ms = 3600000, attempts = 24 },
local BY_SOURCE <const> = {}

return function(failure, _)
    if failure.outcome == "permanent" then
        return dead("permanent_failure")
    end
    local schedule = BY_KIND[failure.kind] or BY_SOURCE[failure.source]
    if not schedule then
        return default()
    elseif failure.failures >= schedule.attempts then
        return dead("retries_exhausted")
    end
    return retry(backoff(schedule, failure.failures, failure.retry_after_ms))
end
