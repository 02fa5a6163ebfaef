-- Heartbeat of a replica. KEYS: replicas, snapshot of this one, name of this memory, clock. ARGV: time, name, seconds to
-- live, snapshot or '', a name for a memory without one, seconds to keep that. Returns the number of live replicas, and
-- the name of the memory: another one than before means that Redis has lost its data.
local now = clock(KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[1], text(now), ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now - tonumber(ARGV[3])))
keep(math.ceil(tonumber(ARGV[3])), KEYS[1])
if ARGV[4] ~= '' then
    redis.call('SET', KEYS[2], ARGV[4], 'EX', math.ceil(tonumber(ARGV[3])))
end
redis.call('SETNX', KEYS[3], ARGV[5])
keep(ARGV[6], KEYS[3])
return {redis.call('ZCARD', KEYS[1]), redis.call('GET', KEYS[3])}
