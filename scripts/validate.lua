-- Ingest asks this about each request before anything is stored: who sent it, and is it an event?
-- The order matters: nothing is read out of a body whose signature has not been checked.

local signature = require("lib.signature")
local sources = require("sources")
local standard = require("couriers.standard")

local verifiers = signature.verifiers(sources)

-- One answer for an unknown source, a missing and a wrong signature: strangers learn nothing about which sources there
-- are. The reason goes to our log only.
local function unauthorized(reason)
    return reject { status = 401, code = "unauthorized", detail = "the signature is missing or wrong", reason = reason }
end

local function stale(reason)
    local detail = "the signature is right, but its time is too far from now"
    return reject { status = 401, code = "stale_timestamp", detail = detail, reason = reason }
end

local function validate(request, source)
    if not source then
        return unauthorized("no such source")
    end
    local ok, matched, is_stale = verifiers[source](request, source)
    if not ok then
        local refuse = is_stale and stale or unauthorized
        return refuse(tostring(matched))
    end
    if matched ~= 1 then -- during a rotation: who still signs with which secret
        log.debug("signed with another secret than the first", { source = request.source_name, secret = matched })
    end
    local courier = source.courier or standard
    return accept(courier.identify(request, request:json()))
end

-- What validate.lua wants to be sure of before it serves: run at each load and reload.
local checks = {
    {
        name = "an unknown source is refused",
        run = function()
            assert(validate(nil, nil).status == 401)
        end,
    },
}

return validate, checks
