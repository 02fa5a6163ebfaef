-- Acquire a permit and reserve. ARGV: time ('' is the server's), rules, call. Returns as JSON [true, is probe, spent,
-- month, is panic] or [false, wait or '', reason]. A permit that is given already is returned again, so that the call may
-- be repeated; one with `is_imported` was given elsewhere `age_s` seconds ago and is imported: it is counted unconditionally;
-- one with `panic`, a number from 0 to 1, may be permitted by an open breaker.
local now, wall = clock(KEYS[2], ARGV[1])
local rules, call = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local keys = keys_of(1)

local month, ends = month_of(wall)

drop_lost_permits(keys, now)
local seen = look(keys, call, rules, now, month, ends, wall)
local known = redis.call('HGET', keys.permits, call.id)
if call.is_imported and not known and redis.call('ZSCORE', keys.log, call.id) then
    known = '-1 0'  -- it is counted and released
end
if known then
    local kind = string.match(known, '^%S+ (%S+)')
    return cjson.encode({true, kind == '1', seen.spent, month, kind == '2'})
end
local wait, is_panic = seen.wait, false
if seen.closed and call.panic and lets_panic(seen.breaker, rules, now, call.panic) then
    wait, is_panic = seen.other, true
end
if wait and not call.is_imported then
    return cjson.encode({false, wait[1] and text(wait[1]) or '', wait[2]})
end

-- An imported call, and one in panic, began in no era of this breaker, so that its result counts in none.
local era, is_probe = seen.breaker.era, false
if call.is_imported or is_panic then
    era = NO_ERA
elseif seen.breaker.open_until ~= nil then
    is_probe = true
    redis.call('HSET', keys.breaker, 'p:' .. call.id, text(now + math.min(rules.probe_lease_s, rules.lease_s)))
end
if is_panic then
    redis.call('HSET', keys.breaker, 'panicked_at', text(now))
    redis.call('HINCRBY', keys.breaker, string.format('a:%d', bucket_of(now, rules)), 1)
end
if not call.is_imported and seen.breaker.suspended['until'] then
    is_probe = true
    redis.call('HSET', keys.breaker, 's_probe', call.id, 's_until', text(now + rules.probe_lease_s))
end
if not call.is_imported and seen.disabled then
    is_probe = true
    seen.disabled.probe, seen.disabled.probe_at = call.id, now + rules.disabled_probe_s
    disable(keys.disabled, seen.disabled)
end
if is_probe or is_panic then
    keep(rules.idle_s, keys.breaker)
end
if #seen.breaker.old > 0 then
    redis.call('HDEL', keys.breaker, unpack(seen.breaker.old))
end

local at = now - call.age_s
if (call.rpm or call.tpm) and at + rules.minute_s > now then
    redis.call('ZADD', keys.log, text(at), call.id)
    redis.call('HSET', keys.tokens, call.id, call.tokens)
    redis.call('HINCRBY', keys.tokens, SUM, call.tokens)
    keep(2 * rules.minute_s, keys.log, keys.tokens)
end
redis.call('ZADD', keys.leases, text(now + rules.lease_s), call.id)
redis.call('ZADD', keys.slots, text(now + math.min(rules.slot_s, rules.lease_s)), call.id)
local kind = is_panic and 2 or (is_probe and 1 or 0)
redis.call('HSET', keys.permits, call.id, table.concat({era, kind, month, call.amount}, ' '))
keep(rules.idle_s, keys.leases, keys.slots, keys.permits)
if call.amount > 0 then
    redis.call('HINCRBY', keys.spent, month, call.amount)
    keep(rules.month_s, keys.spent)
end
return cjson.encode({true, is_probe, seen.spent + call.amount, month, is_panic})
