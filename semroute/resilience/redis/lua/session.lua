-- Value of a session (KEYS[1]) and the milliseconds that are left of its life, false where there is none; and the values
-- of further keys, those of sealed items.
local value = redis.call('GET', KEYS[1])
local sealed = #KEYS > 1 and redis.call('MGET', unpack(KEYS, 2)) or {}
return {value and {value, redis.call('PTTL', KEYS[1])}, sealed}
