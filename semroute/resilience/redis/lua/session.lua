-- Value of a session and the milliseconds that are left of its life; false where there is none.
local value = redis.call('GET', KEYS[1])
return value and {value, redis.call('PTTL', KEYS[1])}
