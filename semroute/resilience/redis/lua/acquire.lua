-- Acquire a permit of one endpoint. ARGV: time ('' is the server's), rules, call. Returns the answer of acquire() as JSON.
local now, wall = clock(KEYS[2], ARGV[1])
return cjson.encode(acquire(keys_of(1), cjson.decode(ARGV[3]), cjson.decode(ARGV[2]), now, wall))
