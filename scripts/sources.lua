-- Who may send, and how each proves who it is. docs/lua-api.md, "sources.lua", lists every field.
--
-- secrets("name") is the list of secrets in WAYBILL_SECRET_NAME (or the file that WAYBILL_SECRET_NAME_FILE names). All of them are
-- valid at once: to rotate, add the new one, let the sender change over, take the old one away. A reload reads
-- the files again. A source without a secret is switched off.

return {
    -- For development, tests and the demo.
    demo = {
        scheme = "standard-webhooks",
        secrets = secrets("demo"),
        courier = require("couriers.standard"),
    },

    -- AfterShip Tracking. Signs the body only, no time: a replay is recognised by its event_id.
    aftership = {
        scheme = "plain-hmac",
        header = "aftership-hmac-sha256",
        encoding = "base64",
        secrets = secrets("aftership"),
        courier = require("couriers.aftership"),
        rate = { per_second = 200, burst = 1000 },
    },

    -- EasyPost trackers. The secret is normalised to Unicode NFKD by EasyPost: choose one of plain ASCII.
    easypost = {
        scheme = "plain-hmac",
        header = "x-hmac-signature",
        prefix = "hmac-sha256-hex=",
        encoding = "hex",
        secrets = secrets("easypost"),
        courier = require("couriers.easypost"),
        accept_status = 200,
        rate = { per_second = 200, burst = 1000 },
    },
}
