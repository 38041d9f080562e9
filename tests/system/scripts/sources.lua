-- One source for each way to sign, for test_signatures.py. It takes the place of sources.lua in a copy of scripts/.

local standard = require("couriers.standard")

local FOR_EVER <const> = 1e11 -- seconds: published examples were signed years ago

local function source(scheme, name, more)
    local made = { scheme = scheme, secrets = secrets(name), courier = standard }
    for field, value in pairs(more or {}) do
        made[field] = value
    end
    return made
end

return {
    demo = source("standard-webhooks", "demo"),
    asymmetric = source("standard-webhooks", "asymmetric"),
    mixed = source("standard-webhooks", "mixed"),
    github = source("github", "github"),
    stripe = source("stripe", "stripe"),
    shopify = source("shopify", "shopify"),
    ["plain-hex"] = source("plain-hmac", "plain_hex", {
        header = "X-Courier-Signature",
        prefix = "hmac-sha256-hex=",
        encoding = "hex",
    }),
    ["plain-base64"] = source("plain-hmac", "plain_base64", { header = "courier-hmac", encoding = "base64" }),

    -- The published examples.
    example_go = source("standard-webhooks", "example_go", { tolerance_s = FOR_EVER }),
    example_rust = source("standard-webhooks", "example_rust", { tolerance_s = FOR_EVER }),

    example_sendcloud = source("plain-hmac", "example_sendcloud", { header = "Sendcloud-Signature", encoding = "hex" }),

    -- Other settings of a source.
    strict = source("standard-webhooks", "strict", { tolerance_s = 10 }),
    answers200 = source("standard-webhooks", "answers200", { accept_status = 200 }),
    limited = source("standard-webhooks", "limited", { rate = { per_second = 1, burst = 3 } }),
    switched_off = source("standard-webhooks", "switched_off"),
}
