-- Restore the spending of an account, as the client last read it, in a Redis that has lost its data.
-- KEYS: spent. ARGV: month, amount, seconds to keep it.
if tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0) < tonumber(ARGV[2]) then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
    redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return 1
