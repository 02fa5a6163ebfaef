-- Status of several endpoints. ARGV: time, rules, list of calls. Returns a list of status_of() as JSON.
local now, wall = clock(KEYS[2], ARGV[1])
local rules, calls = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local month, ends = month_of(wall)
local found = {}
for i, call in ipairs(calls) do
    found[i] = status_of(keys_of(i), call, rules, now, month, ends, wall)
end
return cjson.encode(found)  -- one text: the client reads it faster than a list of lists
