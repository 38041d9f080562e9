-- The worker runs this for each event, in the background, until it succeeds or is given up.
--
-- It keeps one document a parcel in the collection "shipments": the latest status and the timeline of all events, right
-- in whatever order they come. The write is one update that the store applies once per event, however often the event
-- is delivered, so nothing has to be read first.

local simulate = require("lib.simulate")
local sources = require("sources")
local standard = require("couriers.standard")

-- What an event of a type says about the parcel.
local STATUS <const> = {
    ["parcel.label_created"] = "registered",
    ["parcel.registered"] = "registered",
    ["parcel.picked_up"] = "picked_up",
    ["parcel.in_transit"] = "in_transit",
    ["parcel.arrived_at_depot"] = "in_transit",
    ["parcel.customs_cleared"] = "in_transit",
    ["parcel.out_for_delivery"] = "out_for_delivery",
    ["parcel.delivery_failed"] = "delivery_failed",
    ["parcel.ready_for_collection"] = "ready_for_collection",
    ["parcel.delivered"] = "delivered",
    ["parcel.exception"] = "exception",
    ["parcel.returning"] = "returning",
    ["parcel.returned"] = "returned",
    ["parcel.lost"] = "lost",
    ["parcel.cancelled"] = "cancelled",
}

local function courier_of(source_name)
    local source = sources[source_name]
    return source and source.courier or standard
end

-- A courier may say more than we know: a type that is not listed is kept under its own name, without the prefix.
local function status_of(event_type)
    return STATUS[event_type] or event_type:match("[^.]*$")
end

local function process(event, ctx)
    local body = event:json()
    simulate(event, ctx, body)

    local status = status_of(event.type)
    local parcel = courier_of(event.source).parcel(body)
    local at = mongo.date(time.parse(event.occurred_at))
    local shipment = event.source .. "/" .. parcel.tracking_number

    ctx:write {
        collection = "shipments",
        id = shipment,
        update = {
            ["$setOnInsert"] = { source = event.source, tracking_number = parcel.tracking_number },
            ["$push"] = {
                timeline = {
                    ["$each"] = {
                        {
                            at = at,
                            event_id = event.event_id,
                            location = parcel.location,
                            note = parcel.note,
                            status = status,
                        },
                    },
                    ["$sort"] = { at = 1, event_id = 1 },
                },
            },
            -- Documents compare field by field in the order of their names: the later "at" wins, whichever comes first;
            -- at the same time the greater event_id.
            ["$max"] = { latest = { at = at, event_id = event.event_id, status = status } },
        },
    }
    return { shipment = shipment, status = status }
end

-- Run at each load and reload: a type that a courier's mapping makes must be known above.
local checks = {
    {
        name = "every courier's types have a status",
        run = function()
            for name, source in pairs(sources) do
                for theirs, ours in pairs(source.courier and source.courier.types or {}) do
                    assert(STATUS[ours], ("%s: '%s' becomes '%s', which has no status"):format(name, theirs, ours))
                end
            end
        end,
    },
}

return process, checks
