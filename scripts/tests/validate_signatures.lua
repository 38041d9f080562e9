-- Signature schemes against published examples, whatever secrets are set here.

local fake = require("lib.fake")
local signature = require("lib.signature")

-- The example of the Standard Webhooks libraries.
local secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
local signed_at = 1614265330
local source = { scheme = "standard-webhooks", secrets = { secret } }
local verify = signature.verifier("example", source)

local function request(age_s, body)
    return fake.request {
        body = body or '{"test": 2432232314}',
        headers = {
            ["webhook-id"] = "msg_p5jXN8AQM9LWM0D4loKWxJek",
            ["webhook-timestamp"] = tostring(signed_at),
            ["webhook-signature"] = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        },
        received_at_ms = (signed_at + age_s) * 1000,
    }
end

return {
    {
        name = "the published example is right, and for 300 s only",
        run = function()
            assert(verify(request(0), source))
            assert(verify(request(300), source))
            local ok, _, stale = verify(request(301), source)
            assert(not ok and stale)
        end,
    },
    {
        name = "another body is wrong",
        run = function()
            local ok, reason = verify(request(0, "{}"), source)
            assert(not ok and reason == "wrong signature", reason)
        end,
    },
    {
        name = "GitHub's published example is right",
        run = function()
            local github = { scheme = "github", secrets = { "It's a Secret to Everybody" } }
            local hex = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
            local signed = fake.request {
                body = "Hello, World!",
                headers = { ["x-hub-signature-256"] = "sha256=" .. hex },
            }
            assert(signature.verifier("github", github)(signed, github))
        end,
    },
}
