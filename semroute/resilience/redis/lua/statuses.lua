-- Status of several endpoints. ARGV: time, rules, list of calls. Returns as JSON for each
-- [breaker, calls, failure share, ramp, headroom, in flight, spent, month, wait ('0' none, '' no waiting helps), reason,
-- digest of the refused key or ''].
local now, wall = clock(KEYS[2], ARGV[1])
local rules, calls = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local month, ends = month_of(wall)
local found = {}
for i, call in ipairs(calls) do
    local seen = look(keys_of(i), call, rules, now, month, ends, wall)
    local breaker, wait = seen.breaker, seen.wait
    local state, ramp, refused = state_of(breaker, now), ramp_of(breaker, rules, now), breaker.suspended.refused
    if breaker.suspended['until'] then
        state, ramp = 'suspended', suspension_wait(breaker.suspended, now) and 0 or RAMP_START
    end
    if seen.disabled then
        state, ramp = 'disabled', now >= seen.disabled.probe_at and RAMP_START or 0
        refused = seen.disabled.refused
    end
    found[i] = {
        state,
        breaker.calls,
        text(breaker.calls > 0 and breaker.failures / breaker.calls or 0),
        text(ramp),
        text(headroom_of(call, seen.used, seen.spent)),
        seen.used.in_flight,
        seen.spent,
        month,
        wait and (wait[1] and text(wait[1]) or '') or '0',
        wait and wait[2] or '',
        refused or '',
    }
end
return cjson.encode(found)  -- one text: the client reads it faster than a list of lists
