-- AfterShip Tracking: { event_id, event, ts, msg = { tracking_number, tag, … } }.

local fields = require("lib.fields")

-- AfterShip's tags in our words. A tag that is not here is kept as it came: "aftership." and the tag.
local types = {
    Pending = "parcel.label_created",
    InfoReceived = "parcel.label_created",
    InTransit = "parcel.in_transit",
    OutForDelivery = "parcel.out_for_delivery",
    AttemptFail = "parcel.delivery_failed",
    AvailableForPickup = "parcel.ready_for_collection",
    Delivered = "parcel.delivered",
    Exception = "parcel.exception",
    Expired = "parcel.lost",
}

local aftership = { types = types }

function aftership.identify(_, body)
    local msg = fields.object(body, "msg", "msg")
    local tag = fields.text(msg, "tag", "msg.tag")
    fields.text(msg, "tracking_number", "msg.tracking_number")
    return {
        event_id = fields.text(body, "event_id", "event_id"),
        type = types[tag] or "aftership." .. tag,
        occurred_at = fields.unix_time(body, "ts", "ts"),
    }
end

local function last_checkpoint(msg)
    local checkpoints = type(msg.checkpoints) == "table" and msg.checkpoints or {}
    local last = checkpoints[#checkpoints]
    return type(last) == "table" and last or {}
end

function aftership.parcel(body)
    local checkpoint = last_checkpoint(body.msg)
    return {
        tracking_number = body.msg.tracking_number,
        location = fields.place { name = checkpoint.location, city = checkpoint.city },
        note = fields.readable(checkpoint.message),
    }
end

return aftership
