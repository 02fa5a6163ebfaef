-- How several places stand. ARGV: time, rules, list of calls. Returns as JSON for each
-- [breaker, calls, failure share, ramp, headroom, in flight, spent, month, wait ('0' none, '' no waiting helps), reason].
local now = clock(ARGV[1])
local rules, calls = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local month, ends = month_of(now)
local found = {}
for i, call in ipairs(calls) do
    local seen = look(keys_of(i), call, rules, now, month, ends)
    local breaker, wait = seen.breaker, seen.wait
    found[i] = {
        seen.disabled and 'disabled' or state_of(breaker, now),
        breaker.calls,
        text(breaker.calls > 0 and breaker.failures / breaker.calls or 0),
        text(seen.disabled and 0 or ramp_of(breaker, rules, now)),
        text(headroom_of(call, seen.used, seen.spent)),
        seen.used.in_flight,
        seen.spent,
        month,
        wait and (wait[1] and text(wait[1]) or '') or '0',
        wait and wait[2] or '',
    }
end
return cjson.encode(found)  -- one text: the client reads it faster than a list of lists
