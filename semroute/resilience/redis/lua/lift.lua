-- Lift what closes places. ARGV: time, rules, list of calls (login, account; refused where only what was closed for this
-- key is lifted: a digest). The era goes on, so that no call that runs counts.
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
