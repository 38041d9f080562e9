-- EasyPost: { id, description = "tracker.updated", created_at, result = { tracking_code, status, tracking_details } }.

local fields = require("lib.fields")

local types = {
    pre_transit = "parcel.registered",
    in_transit = "parcel.in_transit",
    out_for_delivery = "parcel.out_for_delivery",
    available_for_pickup = "parcel.ready_for_collection",
    delivered = "parcel.delivered",
    return_to_sender = "parcel.returning",
    failure = "parcel.exception",
    error = "parcel.exception",
    cancelled = "parcel.cancelled",
}

local easypost = { types = types }

function easypost.identify(_, body)
    local result = fields.object(body, "result", "result")
    local status = fields.text(result, "status", "result.status")
    fields.text(result, "tracking_code", "result.tracking_code")
    return {
        event_id = fields.text(body, "id", "id"),
        type = types[status] or "easypost." .. status,
        occurred_at = fields.time(body, "created_at", "created_at"),
    }
end

local function last_detail(result)
    local details = type(result.tracking_details) == "table" and result.tracking_details or {}
    local last = details[#details]
    return type(last) == "table" and last or {}
end

local function optional_text(value)
    return type(value) == "string" and value ~= "" and value or nil
end

function easypost.parcel(body)
    local detail = last_detail(body.result)
    local place = type(detail.tracking_location) == "table" and detail.tracking_location or {}
    return {
        tracking_number = body.result.tracking_code,
        location = optional_text(place.city),
        note = optional_text(detail.message),
    }
end

return easypost
