-- Signature schemes. signature.verifier(name, source) makes, once at load, a function
--
--     verify(request, source) -> true, number of the secret that matched
--                             -> false, reason            missing, malformed or wrong
--                             -> false, reason, true      right, but too old or too far in the future
--
-- Reasons are for the log; a sender is not told which of them it was. Every scheme signs the body byte for byte.

local TOLERANCE_S <const> = 300
local MAX_SIGNATURES <const> = 16 -- in one header; what is behind is not looked at
local MAX_ED25519_SIGNATURES <const> = 4 -- of those
local HMAC_BYTES <const> = 32
local ED25519_KEY_BYTES <const> = 32
local ED25519_SIGNATURE_BYTES <const> = 64

local equal, hmac, ed25519_verify = crypto.equal, crypto.hmac_sha256, crypto.ed25519_verify
local base64_decode, hex_decode = crypto.base64_decode, crypto.hex_decode

local function configuration_error(name, format, ...)
    error(("sources.lua: source '%s': %s"):format(name, format:format(...)), 0)
end

-- Unix seconds, strictly decimal digits; nil when they are not.
local function parse_seconds(text)
    if #text > 12 or not text:find("^%d+$") then
        return nil
    end
    return math.tointeger(tonumber(text))
end

-- Whole seconds, both ways; exactly the tolerance passes.
local function check_fresh(request, seconds, source, number)
    local age = request.received_at_ms // 1000 - seconds
    local tolerance = source.tolerance_s or TOLERANCE_S
    if age > tolerance then
        return false, ("signed %d s ago"):format(age), true
    elseif -age > tolerance then
        return false, ("signed for %d s from now"):format(-age), true
    end
    return true, number
end

-- Standard Webhooks: webhook-id, webhook-timestamp, webhook-signature ---------------------------------------------

-- Decodes the secrets into keys, in their order: { hmac = bytes } or { ed25519 = bytes }.
local function standard_webhooks_keys(name, secrets)
    local keys = {}
    for number, secret in ipairs(secrets) do
        if secret:sub(1, 5) == "whsk_" then
            configuration_error(name, "secret %d is a private key (whsk_); the public one (whpk_) belongs here", number)
        end
        local public = secret:sub(1, 5) == "whpk_"
        local text = public and secret:sub(6) or secret:sub(1, 6) == "whsec_" and secret:sub(7) or secret
        local bytes = base64_decode(text, true)
        if not bytes or #bytes == 0 then
            configuration_error(name, "secret %d is not base64 (whsec_… or whpk_…)", number)
        elseif public and #bytes ~= ED25519_KEY_BYTES then
            configuration_error(name, "secret %d (whpk_) is not a key of 32 bytes", number)
        end
        keys[number] = public and { ed25519 = bytes } or { hmac = bytes }
    end
    return keys
end

-- What a request signs, hashed no more often than there is a need: whoever knows no secret can send as many wrong
-- signatures as fit, and a large body with them. At a key's number stands its HMAC, once made.
local function signed_by(id, timestamp, body)
    return { id = id, timestamp = timestamp, body = body, verified = 0 }
end

-- The number of the first key that made this signature, or nil. Each key's HMAC is made once for all signatures.
local function match_hmac(keys, signature, signed)
    for number, key in ipairs(keys) do
        if key.hmac and #signature == HMAC_BYTES then
            local mac = signed[number] or hmac(key.hmac, signed.id, ".", signed.timestamp, ".", signed.body)
            if equal(signature, mac) then
                return number
            end
            signed[number] = mac
        end
    end
end

-- Each of these signatures has to be tried with each key, with a hash over the body: hence few of them.
local function match_ed25519(keys, signature, signed)
    if #signature ~= ED25519_SIGNATURE_BYTES or signed.verified == MAX_ED25519_SIGNATURES then
        return nil
    end
    signed.verified = signed.verified + 1
    for number, key in ipairs(keys) do
        if key.ed25519 then
            signed.text = signed.text or signed.id .. "." .. signed.timestamp .. "." .. signed.body
            if ed25519_verify(key.ed25519, signed.text, signature) then
                return number
            end
        end
    end
end

local matchers = { v1 = match_hmac, v1a = match_ed25519 }

-- Tries the entries "version,base64" one after the other; those that it does not understand are left aside.
local function find_match(keys, signatures, signed)
    local seen, understood = 0, false
    for entry in signatures:gmatch("[^ ]+") do
        seen = seen + 1
        if seen > MAX_SIGNATURES then
            break
        end
        local comma = entry:find(",", 1, true)
        local match = comma and matchers[entry:sub(1, comma - 1)]
        local signature = match and base64_decode(entry:sub(comma + 1))
        if signature then
            understood = true
            local number = match(keys, signature, signed)
            if number then
                return number
            end
        end
    end
    return nil, understood and "wrong signature" or "malformed webhook-signature"
end

local function standard_webhooks(name, configuration)
    local keys = standard_webhooks_keys(name, configuration.secrets or {})
    return function(request, source)
        local id, fault = request:sole_header("webhook-id")
        if not id then
            return false, fault .. " webhook-id"
        end
        local timestamp
        timestamp, fault = request:sole_header("webhook-timestamp")
        if not timestamp then
            return false, fault .. " webhook-timestamp"
        end
        local signatures
        signatures, fault = request:sole_header("webhook-signature")
        if not signatures then
            return false, fault .. " webhook-signature"
        end
        if id == "" or id:find(".", 1, true) then -- a dot would let the fields be shifted under the same signature
            return false, "malformed webhook-id"
        end
        local seconds = parse_seconds(timestamp)
        if not seconds then
            return false, "malformed webhook-timestamp"
        end
        local number
        number, fault = find_match(keys, signatures, signed_by(id, timestamp, request.body))
        if not number then
            return false, fault
        end
        return check_fresh(request, seconds, source, number)
    end
end

-- Schemes with raw secrets ------------------------------------------------------------------------------------------

-- The number of the secret whose HMAC over the parts is among the signatures, or nil.
local function match_secret(secrets, signatures, ...)
    for number, secret in ipairs(secrets) do
        local expected = hmac(secret, ...)
        for _, signature in ipairs(signatures) do
            if equal(signature, expected) then
                return number
            end
        end
    end
end

-- Stripe-Signature: t=<unix>,v1=<hex>[,v1=<hex>…] over t.body. The secret is used as it is, although it begins with
-- whsec_ too.
local function parse_stripe(header)
    local timestamp, signatures, seen = nil, {}, 0
    for name, value in header:gmatch("([^,=]+)=([^,]*)") do
        seen = seen + 1
        if seen > MAX_SIGNATURES then
            break
        end
        if name == "t" then
            if timestamp then
                return nil
            end
            timestamp = value
        elseif name == "v1" then
            local signature = hex_decode(value)
            if signature and #signature == HMAC_BYTES then
                signatures[#signatures + 1] = signature
            end
        end
    end
    return timestamp, signatures
end

local function stripe()
    return function(request, source)
        local header, fault = request:sole_header("stripe-signature")
        if not header then
            return false, fault .. " stripe-signature"
        end
        local timestamp, signatures = parse_stripe(header)
        local seconds = timestamp and parse_seconds(timestamp)
        if not seconds or #signatures == 0 then
            return false, "malformed stripe-signature"
        end
        local number = match_secret(source.secrets, signatures, timestamp, ".", request.body)
        if not number then
            return false, "wrong signature"
        end
        return check_fresh(request, seconds, source, number)
    end
end

-- One header with the HMAC of the body. No time is signed: freshness cannot be checked, identity still is.
local function body_hmac(header_name, prefix, decode)
    return function(request, source)
        local header, fault = request:sole_header(header_name)
        if not header then
            return false, fault .. " " .. header_name
        end
        local signature = header:sub(1, #prefix) == prefix and decode(header:sub(#prefix + 1))
        if not signature or #signature ~= HMAC_BYTES then
            return false, "malformed " .. header_name
        end
        local number = match_secret(source.secrets, { signature }, request.body)
        if not number then
            return false, "wrong signature"
        end
        return true, number
    end
end

local decoders = { hex = hex_decode, base64 = base64_decode }

local function plain_hmac(name, source)
    if source.header == nil or source.header == "" then
        configuration_error(name, "plain-hmac needs header = the header's name")
    end
    local decode = decoders[source.encoding]
    if not decode then
        configuration_error(name, 'plain-hmac needs encoding = "hex" or "base64"')
    end
    return body_hmac(source.header:lower(), source.prefix or "", decode)
end

local schemes = {
    ["standard-webhooks"] = standard_webhooks,
    ["stripe"] = stripe,
    ["plain-hmac"] = plain_hmac,
    ["github"] = function()
        return body_hmac("x-hub-signature-256", "sha256=", hex_decode)
    end,
    ["shopify"] = function()
        return body_hmac("x-shopify-hmac-sha256", "", base64_decode)
    end,
}

-- What a source is made of ------------------------------------------------------------------------------------------

-- The fields of every source with their types, and those that one scheme has besides. A name that is not here is
-- misspelt, or would be without effect. (secrets, rate and accept_status are looked at by the gateway itself.)
local FIELDS <const> = {
    scheme = "string",
    secrets = "table",
    courier = "table",
    rate = "table",
    accept_status = "number",
}
local FIELDS_OF <const> = {
    ["standard-webhooks"] = { tolerance_s = "number" },
    ["stripe"] = { tolerance_s = "number" },
    ["plain-hmac"] = { header = "string", prefix = "string", encoding = "string" },
}

local function check_courier(name, courier)
    if type(courier) ~= "table" then
        configuration_error(name, 'courier must be a table, as require("couriers.standard") gives it')
    end
    for _, part in ipairs { "identify", "parcel" } do
        if type(courier[part]) ~= "function" then
            configuration_error(name, "its courier has no function %s", part)
        end
    end
end

local function check_fields(name, source)
    local more = FIELDS_OF[source.scheme] or {}
    for field, value in pairs(source) do
        local wanted = FIELDS[field] or more[field]
        if not wanted then
            configuration_error(name, "the scheme '%s' knows no field '%s'", source.scheme, tostring(field))
        elseif type(value) ~= wanted then
            configuration_error(name, "%s must be a %s, not a %s", field, wanted, type(value))
        end
    end
    if source.tolerance_s and source.tolerance_s < 0 then
        configuration_error(name, "tolerance_s must not be negative")
    end
end

-- The module --------------------------------------------------------------------------------------------------------

local signature = {}

-- A source with a scheme of its own, which may have fields of its own, too, is checked for its courier only.
function signature.verifier(name, source)
    if source.courier ~= nil then
        check_courier(name, source.courier)
    end
    if type(source.scheme) == "function" then
        return source.scheme -- scheme(request, source) -> ok, reason
    end
    local make = schemes[source.scheme]
    if not make then
        configuration_error(name, "there is no scheme '%s'", tostring(source.scheme))
    end
    check_fields(name, source)
    return make(name, source)
end

-- One for each source, by the source's table. Also for those without secrets, which are switched off, so that what is
-- wrong with them is found before the day when they get one.
function signature.verifiers(sources)
    local verifiers = {}
    for name, source in pairs(sources) do
        verifiers[source] = signature.verifier(name, source)
    end
    return verifiers
end

return signature
