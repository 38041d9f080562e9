-- Stand-ins for what Waybill hands to the scripts, so that checks (scripts/tests/) can call them with made-up requests
-- and events. They look like the real objects in docs/lua-api.md.

local fake = {}

local function text_of(body)
    return type(body) == "string" and body or json.encode(body)
end

-- Calls a script's function; a verdict that it raises with error() is its answer, as in a real call.
function fake.answer(script, ...)
    local ok, answer = pcall(script, ...)
    if not ok and type(answer) ~= "table" then
        error(answer, 0)
    end
    return answer
end

-- options: body (text or table), headers (by lower-case name: a text, or a list), source_name, received_at_ms
function fake.request(options)
    local request = {
        body = text_of(options.body),
        content_type = "application/json",
        source_name = options.source_name or "demo",
        received_at_ms = options.received_at_ms or time.now_ms(),
    }

    function request.headers(_, name)
        local value = options.headers and options.headers[name:lower()]
        return type(value) == "table" and value or { value }
    end

    function request:header(name)
        local values = self:headers(name)
        if #values > 1 then
            error(reject { status = 400, code = "repeated_header", field = name, detail = "once only" })
        end
        return values[1]
    end

    function request:sole_header(name)
        local values = self:headers(name)
        if #values == 1 then
            return values[1]
        end
        return nil, #values == 0 and "missing" or "repeated"
    end

    function request:json()
        local value, fault = json.decode(self.body)
        if fault then
            error(reject { status = 400, code = "invalid_json", detail = fault })
        elseif not self.body:find("^[ \t\r\n]*{") then
            error(reject { status = 400, code = "not_an_object", detail = "the body must be a JSON object" })
        end
        return value
    end

    return request
end

-- options: body (text or table) and any field of an event
function fake.event(options)
    local event = {
        source = options.source or "demo",
        event_id = options.event_id or "evt_1",
        type = options.type or "parcel.in_transit",
        occurred_at = options.occurred_at or "2026-01-31T12:00:00Z",
        received_at_ms = options.received_at_ms or time.now_ms(),
        attempt = options.attempt or 1,
        replay = options.replay,
        body = text_of(options.body),
    }
    event.key = event.source .. "/" .. event.event_id

    function event:json()
        return assert(json.decode(self.body))
    end

    return event
end

-- Keeps what is asked for in ctx.writes and ctx.messages. documents: what ctx:find gives, by "collection/id".
function fake.ctx(failures, documents)
    local ctx = { attempt = (failures or 0) + 1, failures = failures or 0, writes = {}, messages = {} }

    function ctx:write(write)
        self.writes[#self.writes + 1] = write
    end

    function ctx:publish(topic, payload)
        if type(topic) == "table" then
            topic, payload = topic.topic, topic.payload
        end
        self.messages[#self.messages + 1] = { topic = topic, payload = payload }
    end

    function ctx.find(_, collection, id)
        return documents and documents[collection .. "/" .. id]
    end

    return ctx
end

return fake
