-- The event format of docs/event-format.md: what a partner sends that has no format of its own.

local fields = require("lib.fields")

local standard = {}

-- What ingest needs to know of an event.
function standard.identify(_, body)
    local identity = {
        event_id = fields.text(body, "event_id", "event_id"),
        type = fields.text(body, "type", "type"),
        occurred_at = fields.time(body, "occurred_at", "occurred_at"),
    }
    fields.text(fields.object(body, "data", "data"), "tracking_number", "data.tracking_number")
    return identity
end

-- What process.lua needs to know of the parcel. Known fields only: the rest of a body is anybody's.
function standard.parcel(body)
    local data = body.data
    return {
        tracking_number = data.tracking_number,
        location = fields.place(data.location),
        note = fields.readable(data.note) or fields.readable(data.description),
    }
end

return standard
