-- Reset all that rejects calls to endpoints. ARGV: time, rules, list of calls (login, account; refused, the digest of a
-- key, to reset only what was closed for that key). A new era begins, so that no running call counts.
local rules, calls = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
for i, call in ipairs(calls) do
    local keys = keys_of(i)
    local disabled = disabled_of(keys.disabled, call)
    if disabled and (not call.refused or disabled.refused == call.refused) then
        redis.call('HDEL', keys.disabled, disabled.login)
    end
    if not call.refused then
        local era = tonumber(redis.call('HGET', keys.breaker, 'era') or 0)
        redis.call('DEL', keys.breaker)
        redis.call('HSET', keys.breaker, 'era', era + 1)
        keep(rules.idle_s, keys.breaker)
    elseif redis.call('HGET', keys.breaker, 's_refused') == call.refused then
        redis.call('HDEL', keys.breaker, 's_until', 's_times', 's_probe', 's_why', 's_refused')
    end
end
return 1
