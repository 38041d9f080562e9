-- Taking fields out of a decoded body. What is missing or wrong ends the request with a 422 that names the field.

local MAX_BYTES <const> = 256

local fields = {}

local function refuse(code, path, detail)
    error(reject { status = 422, code = code, field = path, detail = detail })
end

local function get(object, name, path)
    local value = object[name]
    if value == nil or value == json.null then
        refuse("missing_field", path, path .. " is required")
    end
    return value
end

-- A string that is not empty, not long and has no control characters. path is the field's full name, for the answer.
function fields.text(object, name, path)
    local value = get(object, name, path)
    if type(value) ~= "string" then
        refuse("invalid_field", path, path .. " must be a string")
    elseif value == "" or #value > MAX_BYTES then
        refuse("invalid_field", path, ("%s must have 1 to %d bytes"):format(path, MAX_BYTES))
    elseif value:find("%c") then
        refuse("invalid_field", path, path .. " must not contain control characters")
    end
    return value
end

-- An RFC 3339 date-time, as its text.
function fields.time(object, name, path)
    local value = fields.text(object, name, path)
    if not time.parse(value) then
        refuse("invalid_field", path, path .. " must be an RFC 3339 date-time, as 2026-01-31T12:00:00Z")
    end
    return value
end

function fields.object(object, name, path)
    local value = get(object, name, path)
    if type(value) ~= "table" then
        refuse("invalid_field", path, path .. " must be an object")
    end
    return value
end

-- A number of Unix seconds, as RFC 3339 text.
function fields.unix_time(object, name, path)
    local value = get(object, name, path)
    if type(value) ~= "number" or value < 0 or value > 253402300799 then
        refuse("invalid_field", path, path .. " must be a time in Unix seconds")
    end
    return time.format(value * 1000)
end

-- For what may be missing, in the worker ------------------------------------------------------------------------------

local MAX_TEXT_BYTES <const> = 500

-- A text for people to read: nil when it is none or empty, control characters as spaces, cut when it is long.
function fields.readable(value)
    if type(value) ~= "string" or value == "" then
        return nil
    end
    if #value > MAX_TEXT_BYTES then
        value = value:sub(1, utf8.offset(value, 0, MAX_TEXT_BYTES + 1) - 1) .. "…"
    end
    return (value:gsub("%c", " "))
end

-- { name =, city =, country = } with what there is of these; nil when there is nothing. A text is taken for the name.
function fields.place(value)
    if type(value) ~= "table" then
        value = { name = value }
    end
    local place = {
        name = fields.readable(value.name),
        city = fields.readable(value.city),
        country = fields.readable(value.country),
    }
    return next(place) and place or nil
end

return fields
