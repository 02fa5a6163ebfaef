-- Ask for leave and reserve. ARGV: time ('' is the server's), rules, call. Returns as JSON [true, is probe, spent, month] or
-- [false, wait or '', reason]. A pass that is out already is given again, so that the question may be repeated; a call
-- with `adopt` is one that was let through elsewhere `age_s` seconds ago: it is counted, whatever the gates say.
local now = clock(ARGV[1])
local rules, call = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local keys = keys_of(1)

local month, ends = month_of(now)

forget_passes(keys, now)
local seen = look(keys, call, rules, now, month, ends)
local known = redis.call('HGET', keys.passes, call.id)
if call.adopt and not known and redis.call('ZSCORE', keys.log, call.id) then
    known = '-1 0'  -- it is counted, and came back
end
if known then
    return cjson.encode({true, string.match(known, '^%S+ (%S+)') == '1', seen.spent, month})
end
if seen.wait and not call.adopt then
    return cjson.encode({false, seen.wait[1] and text(seen.wait[1]) or '', seen.wait[2]})
end

local is_probe = not call.adopt and seen.breaker.open_until ~= nil
if is_probe then
    redis.call('HSET', keys.breaker, 'p:' .. call.id, text(now + math.min(rules.probe_lease_s, rules.lease_s)))
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
-- An adopted call began under no era of this breaker, so its ending counts in none.
local era = call.adopt and -1 or seen.breaker.era
redis.call('HSET', keys.passes, call.id, table.concat({era, is_probe and 1 or 0, month, call.amount}, ' '))
keep(rules.idle_s, keys.leases, keys.passes)
if call.amount > 0 then
    redis.call('HINCRBY', keys.spent, month, call.amount)
    keep(rules.month_s, keys.spent)
end
return cjson.encode({true, is_probe, seen.spent + call.amount, month})
