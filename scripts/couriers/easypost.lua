-- EasyPost: { id, description = "tracker.updated", created_at, result = { tracking_code, status, tracking_details } }.

local fields = require("lib.fields")

local types = {
    pre_transit = "parcel.label_created",
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

function easypost.parcel(body)
    local detail = last_detail(body.result)
    return {
        tracking_number = body.result.tracking_code,
        location = fields.place(detail.tracking_location),
        note = fields.readable(detail.message),
    }
end

return easypost
