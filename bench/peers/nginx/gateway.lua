-- One source of Standard Webhooks events, accepted into a Redis stream: what Waybill's ingest does for its demo source,
-- as somebody would build it who has nginx with Lua. Loaded once a worker process; nginx.conf calls serve() per request.
--
-- Quick where it counts: HMAC and comparison are libcrypto's, called through LuaJIT's FFI with the key's state kept;
-- patterns are compiled once; connections to Redis are kept in nginx's pool.

local cjson = require("cjson.safe")
local ffi = require("ffi")
local redis = require("nginx.redis")

local C = ffi.C
local find, match = ngx.re.find, ngx.re.match

local SOURCE = "demo"
local STREAM = os.getenv("PEER_STREAM")
local REDIS_PORT = tonumber(os.getenv("PEER_REDIS_PORT"))
local REDIS_TIMEOUT_MS = 2000
local POOL_SIZE = 256
local POOL_IDLE_MS = 60000
local TOLERANCE_S = 300
local MAX_FIELD_BYTES = 256
local MAX_HEADERS_BYTES = 16384

-- The key ------------------------------------------------------------------------------------------------------------

ffi.cdef [[
void *HMAC_CTX_new(void);
const void *EVP_sha256(void);
int HMAC_Init_ex(void *context, const void *key, int len, const void *digest, void *engine);
int HMAC_Update(void *context, const char *data, size_t len);
int HMAC_Final(void *context, unsigned char *out, unsigned int *len);
int CRYPTO_memcmp(const void *a, const void *b, size_t len);
]]

local HMAC_BYTES = 32
local key = assert(ngx.decode_base64((os.getenv("PEER_SECRET"):gsub("^whsec_", ""))))
local context = C.HMAC_CTX_new()
assert(C.HMAC_Init_ex(context, key, #key, C.EVP_sha256(), nil) == 1)
local mac = ffi.new("unsigned char[64]")
local mac_len = ffi.new("unsigned int[1]")

local function is_signed(signature, id, timestamp, body)
    if #signature ~= HMAC_BYTES then
        return false
    end
    C.HMAC_Init_ex(context, nil, 0, nil, nil) -- the same key again
    C.HMAC_Update(context, id, #id)
    C.HMAC_Update(context, ".", 1)
    C.HMAC_Update(context, timestamp, #timestamp)
    C.HMAC_Update(context, ".", 1)
    C.HMAC_Update(context, body, #body)
    C.HMAC_Final(context, mac, mac_len)
    return C.CRYPTO_memcmp(mac, signature, HMAC_BYTES) == 0
end

-- Answers ------------------------------------------------------------------------------------------------------------

local function answer(status, content_type, body)
    ngx.status = status
    ngx.header["Content-Type"] = content_type
    ngx.header["Content-Length"] = #body
    ngx.print(body)
end

local function refuse(status, code, detail)
    if status == 503 then
        ngx.header["Retry-After"] = 2
    end
    answer(status, "application/problem+json",
        cjson.encode { status = status, code = code, detail = detail } .. "\n")
end

-- Checks: each returns what it found, or nil -------------------------------------------------------------------------

-- A header that is there exactly once; nginx gives a list for one that is repeated.
local function sole(headers, name)
    local value = headers[name]
    return type(value) == "string" and value or nil
end

local function check_signature(headers, body)
    local id, timestamp = sole(headers, "webhook-id"), sole(headers, "webhook-timestamp")
    local signatures = sole(headers, "webhook-signature")
    if not id or not timestamp or not signatures or id == "" or id:find(".", 1, true) or
        not find(timestamp, [[^\d{1,12}$]], "jo") then
        return nil
    end
    local from = 1
    while from do
        local comma = signatures:find(",", from, true)
        if not comma then
            return nil
        end
        local space = signatures:find(" ", comma, true)
        if signatures:sub(from, comma - 1) == "v1" then
            local signature = ngx.decode_base64(signatures:sub(comma + 1, (space or 0) - 1))
            if signature and is_signed(signature, id, timestamp, body) then
                return math.abs(ngx.time() - tonumber(timestamp)) <= TOLERANCE_S
            end
        end
        from = space and space + 1
    end
    return nil
end

local function is_text(value)
    return type(value) == "string" and value ~= "" and #value <= MAX_FIELD_BYTES and
        not find(value, [=[[\x00-\x1f\x7f]]=], "jo")
end

local TIME = [[^\d{4}-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)$]]
local found = {}

local function is_time(value)
    local m = is_text(value) and match(value, TIME, "jo", nil, found)
    return m and tonumber(m[1]) <= 12 and tonumber(m[2]) <= 31 and tonumber(m[3]) <= 23 and tonumber(m[4]) <= 59 and
        tonumber(m[5]) <= 60
end

-- The name of the first field that is missing or wrong.
local function wrong_field(event)
    local data = event.data
    return not is_text(event.event_id) and "event_id"
        or not is_text(event.type) and "type"
        or not is_time(event.occurred_at) and "occurred_at"
        or type(data) ~= "table" and "data"
        or not is_text(data.tracking_number) and "data.tracking_number"
        or nil
end

-- The request --------------------------------------------------------------------------------------------------------

local function read_body()
    ngx.req.read_body()
    local body = ngx.req.get_body_data()
    if body then
        return body
    end
    local name = ngx.req.get_body_file() -- larger than nginx's buffer
    local file = name and io.open(name, "rb")
    if not file then
        return ""
    end
    body = file:read("*a")
    file:close()
    return body
end

local credentials = { authorization = true, cookie = true, ["proxy-authorization"] = true }

-- "name: value" lines, kept with the event.
local function header_lines(headers)
    local lines, n = {}, 0
    for name, value in pairs(headers) do
        if not credentials[name] then
            for _, one in ipairs(type(value) == "table" and value or { value }) do
                lines[n + 1], lines[n + 2], lines[n + 3], lines[n + 4] = name, ": ", one, "\n"
                n = n + 4
            end
        end
    end
    return table.concat(lines):sub(1, MAX_HEADERS_BYTES)
end

-- True when Redis has it (on disk, with appendfsync always).
local function add(event, body, headers, received_at, ingest_id)
    local client = redis:new()
    client:set_timeout(REDIS_TIMEOUT_MS)
    local ok, fault = client:connect("127.0.0.1", REDIS_PORT)
    if not ok then
        return false, fault
    end
    local id
    id, fault = client:xadd(STREAM, "*", "source", SOURCE, "event_id", event.event_id, "type", event.type,
        "occurred_at", event.occurred_at, "received_at", received_at, "ingest_id", ingest_id,
        "content_type", headers["content-type"], "headers", header_lines(headers), "body", body)
    if not id then
        client:close()
        return false, fault
    end
    client:set_keepalive(POOL_IDLE_MS, POOL_SIZE)
    return true
end

local gateway = {}

function gateway.serve()
    if ngx.req.get_method() ~= "POST" then
        return refuse(405, "method_not_allowed", "Only POST is possible here.")
    end
    local headers = ngx.req.get_headers()
    local content_type = sole(headers, "content-type")
    if not content_type or not find(content_type, [[^application/json\s*(?:;|$)]], "joi") then
        return refuse(415, "unsupported_media_type", "Content-Type must be application/json.")
    end
    local body = read_body()
    local fresh = check_signature(headers, body)
    if not fresh then
        return refuse(401, fresh == nil and "unauthorized" or "stale_timestamp", "The signature is wrong or old.")
    end
    local event, fault = cjson.decode(body)
    if type(event) ~= "table" then
        return refuse(400, "invalid_json", fault or "the body must be a JSON object")
    end
    local wrong = wrong_field(event)
    if wrong then
        return refuse(422, "invalid_field", wrong)
    end
    local now, ingest_id = ngx.now(), ngx.var.request_id
    local ok
    ok, fault = add(event, body, headers, string.format("%.0f", now * 1000), ingest_id)
    if not ok then
        ngx.log(ngx.ERR, "Redis: ", fault)
        return refuse(503, "queue_unavailable", "The event was not accepted; send it again.")
    end
    local received_at = os.date("!%Y-%m-%dT%H:%M:%S", now) .. string.format(".%03dZ", now * 1000 % 1000)
    return answer(202, "application/json", '{"status":"accepted","event_id":' .. cjson.encode(event.event_id) ..
        ',"ingest_id":"' .. ingest_id .. '","received_at":"' .. received_at .. '"}\n')
end

return gateway
