-- What process.lua asks the store for.

local fake = require("lib.fake")
local process = require("process")

local function run(event_type, data)
    local ctx = fake.ctx()
    local event = fake.event { type = event_type, body = { data = data } }
    return fake.answer(process, event, ctx), ctx
end

local function expect(what, got, wanted)
    if got ~= wanted then
        error(("%s is '%s', expected '%s'"):format(what, tostring(got), tostring(wanted)), 2)
    end
end

return {
    {
        name = "one write to the parcel's document",
        run = function()
            local place = { city = "Köln", lat = 50.9 }
            local result, ctx = run("parcel.delivered", { tracking_number = "T1", location = place })
            expect("the shipment", result.shipment, "demo/T1")
            expect("the status", result.status, "delivered")
            assert(#ctx.writes == 1 and ctx.writes[1].collection == "shipments" and ctx.writes[1].id == "demo/T1")
            local entry = ctx.writes[1].update["$push"].timeline["$each"][1]
            expect("the timeline's status", entry.status, "delivered")
            assert(entry.location.city == "Köln" and entry.event_id == "evt_1")
            assert(ctx.writes[1].update["$max"].latest.at == entry.at)
        end,
    },
    {
        name = "a type that is not listed is kept under its own name",
        run = function()
            local result, ctx = run("parcel.eaten_by_dog", { tracking_number = "T1" })
            expect("the status", result.status, "eaten_by_dog")
            expect("the number of writes", #ctx.writes, 1)
        end,
    },
}
