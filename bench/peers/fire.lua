-- For wrk: sends the requests of a file one after the other, as they are. A record is five digits, the length, and then so
-- many bytes. Ends with a line of JSON.
local file

function init(args)
    file = assert(io.open(args[1], "rb"))
end

function request()
    local len = file:read(5)
    if not len then -- all were sent: from the start
        file:seek("set", 0)
        len = file:read(5)
    end
    return file:read(tonumber(len))
end

function done(summary, latency)
    local errors = summary.errors
    io.write(("{\"answers\":%d,\"seconds\":%.3f,\"refused\":%d,\"broken\":%d,\"p50_us\":%d,\"p99_us\":%d}\n"):format(
        summary.requests, summary.duration / 1e6, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout, latency:percentile(50), latency:percentile(99)))
end
