-- What the courier mappings make of a body.

local fake = require("lib.fake")
local aftership = require("couriers.aftership")
local easypost = require("couriers.easypost")
local standard = require("couriers.standard")

local function identify(courier, body)
    local request = fake.request { body = body }
    return fake.answer(courier.identify, request, request:json())
end

return {
    {
        name = "our own format",
        run = function()
            local event = identify(standard, {
                event_id = "evt_1",
                type = "parcel.delivered",
                occurred_at = "2026-01-31T12:00:00+01:00",
                data = { tracking_number = "00340434161094042557" },
            })
            assert(event.event_id == "evt_1" and event.type == "parcel.delivered")
        end,
    },
    {
        name = "a missing tracking number is named",
        run = function()
            local answer = identify(standard, {
                event_id = "evt_1",
                type = "parcel.delivered",
                occurred_at = "2026-01-31T12:00:00Z",
                data = { other = 1 },
            })
            assert(answer.status == 422 and answer.code == "missing_field")
            assert(answer.field == "data.tracking_number")
        end,
    },
    {
        name = "a body that is no object is refused before a courier sees it",
        run = function()
            for body, code in pairs { ["[1]"] = "not_an_object", ["null"] = "not_an_object", ["{"] = "invalid_json" } do
                local request = fake.request { body = body }
                local answer = fake.answer(request.json, request)
                assert(answer.status == 400 and answer.code == code, body)
            end
        end,
    },
    {
        name = "an AfterShip tag that we do not know is kept",
        run = function()
            local event = identify(aftership, {
                event_id = "evt_1",
                ts = 1769860800,
                msg = { tracking_number = "T1", tag = "Teleported" },
            })
            assert(event.type == "aftership.Teleported", event.type)
        end,
    },
    {
        name = "AfterShip",
        run = function()
            local event = identify(aftership, {
                event_id = "5b1c9d4e-6a59-4b7c-9f57-0d9d1f1f6a11",
                event = "tracking_update",
                ts = 1769860800,
                msg = { tracking_number = "1Z999AA10123456784", tag = "OutForDelivery" },
            })
            assert(event.type == "parcel.out_for_delivery", event.type)
            assert(event.occurred_at == "2026-01-31T12:00:00.000Z", event.occurred_at)
        end,
    },
    {
        name = "EasyPost",
        run = function()
            local event = identify(easypost, {
                id = "evt_3f2a",
                description = "tracker.updated",
                created_at = "2026-01-31T12:00:00Z",
                result = { tracking_code = "9400110898825022579493", status = "return_to_sender" },
            })
            assert(event.event_id == "evt_3f2a" and event.type == "parcel.returning")
        end,
    },
}
