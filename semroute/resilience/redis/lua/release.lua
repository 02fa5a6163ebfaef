-- Release a permit. ARGV: time, rules, call (id, result, account, login; tokens, amount, wait_s, reason, refused if they
-- are known; random from 0 to 1). Returns 1, or 0 for a permit that was released or dropped before.
local now, wall = clock(KEYS[2], ARGV[1])
local rules, call = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local keys = keys_of(1)

local permit = redis.call('HGET', keys.permits, call.id)
if not permit or tonumber(redis.call('ZSCORE', keys.leases, call.id)) <= now then
    return 0
end
redis.call('HDEL', keys.permits, call.id)
redis.call('ZREM', keys.leases, call.id)
local era, kind, month, amount = string.match(permit, '^(%S+) (%S+) (%S+) (%S+)$')

local reserved = call.tokens and redis.call('HGET', keys.tokens, call.id)
if reserved then
    redis.call('HSET', keys.tokens, call.id, call.tokens)
    redis.call('HINCRBY', keys.tokens, SUM, call.tokens - tonumber(reserved))
end
if call.amount and month == month_of(wall) then
    redis.call('HINCRBY', keys.spent, month, call.amount - tonumber(amount))
    keep(rules.month_s, keys.spent)
end

local breaker = breaker_of(keys, rules, now)
redis.call('ZREM', keys.slots, call.id)

-- The credential at its host.
local disabled = disabled_of(keys.disabled, call)
if not disabled then
    if call.result == 'disable' then
        disable(keys.disabled, {
            login = call.login, reason = call.reason, refused = call.refused, probe_at = now + rules.disabled_probe_s})
    end
elseif disabled.probe == call.id then
    disabled.probe = nil
    if call.result == 'disable' then
        disabled.reason, disabled.refused = call.reason, call.refused
    end
    if call.result == 'success' then
        redis.call('HDEL', keys.disabled, disabled.login)
    else
        disable(keys.disabled, disabled)
    end
end
if call.result == 'disable' then
    keep(rules.month_s, keys.disabled)
end

-- The endpoint's suspension.
local suspended = breaker.suspended
local is_its_probe = suspended['until'] and suspended.probe == call.id
if is_its_probe then
    redis.call('HDEL', keys.breaker, 's_probe')
    redis.call('HSET', keys.breaker, 's_until', text(now))
end
if call.result == 'suspend' and (is_its_probe or not suspended['until']) then
    local longest_s = math.min(rules.suspend_s * 2 ^ math.min(suspended.times, 64), rules.most_suspend_s)
    redis.call('HSET', keys.breaker, 's_until', text(now + longest_s * (1 - rules.jitter * call.random)),
        's_times', suspended.times + 1, 's_why', call.reason, 's_refused', call.refused or '')
    if not call.refused then
        redis.call('HDEL', keys.breaker, 's_refused')
    end
elseif call.result == 'success' and is_its_probe then
    redis.call('HDEL', keys.breaker, 's_until', 's_times', 's_probe', 's_why', 's_refused')
end

-- End an era: its counts are deleted; the counts of all eras, the leases of running probes, the
-- suspension and the hint stay.
local function begin_era(fields)
    redis.call('HDEL', keys.breaker, unpack(FIELDS_OF_AN_ERA))
    if #breaker.of_the_era > 0 then
        redis.call('HDEL', keys.breaker, unpack(breaker.of_the_era))
    end
    redis.call('HSET', keys.breaker, 'era', breaker.era + 1, unpack(fields))
end

local function open(why)
    local longest_s = math.min(rules.open_s * 2 ^ math.min(breaker.failed_rounds, 64), rules.most_open_s)
    local until_then = now + longest_s * (1 - rules.jitter * call.random)
    begin_era({'open_until', text(until_then), 'why', why, 'failed_probes', breaker.failed_rounds})
end

local function judge_probe()
    if call.result == 'failure' then
        local bad = breaker.bad_probes + 1
        if bad >= rules.failed_probes then
            breaker.failed_rounds = breaker.failed_rounds + 1
            open(bad .. ' of ' .. bad + breaker.good_probes .. ' probes failed')
        else
            redis.call('HSET', keys.breaker, 'bad_probes', bad)
        end
    elseif call.result == 'success' then
        if breaker.good_probes + 1 >= rules.successes then
            begin_era({'ramp_from', text(now)})
        else
            redis.call('HINCRBY', keys.breaker, 'successes', 1)
        end
    end
end

local index = bucket_of(now, rules)

-- In the counts of all eras; a call in panic was counted as it began.
local function count_everywhere()
    if kind ~= '2' then
        redis.call('HINCRBY', keys.breaker, string.format('a:%d', index), 1)
    end
    if call.result == 'success' then
        redis.call('HINCRBY', keys.breaker, string.format('b:%d', index), 1)
    end
end

local function judge_panic()
    local good = call.result == 'success' and breaker.good_in_panic + 1 or 0
    redis.call('HSET', keys.breaker, 'good_in_panic', good)
    if good >= rules.successes then
        breaker.open_until = now
        redis.call('HSET', keys.breaker, 'open_until', text(now))
    end
end

local function count()
    local failed = call.result == 'failure' and 1 or 0
    local calls, failures = breaker.calls + 1, breaker.failures + failed
    local in_a_row = failed == 1 and breaker.in_a_row + 1 or 0
    if in_a_row >= rules.in_a_row then
        return open(in_a_row .. ' failures in a row')
    end
    if calls >= rules.least_calls and failures >= rules.failure_share * calls then
        return open(string.format('%d of %d calls failed within %g s', failures, calls, rules.window_s))
    end
    redis.call('HINCRBY', keys.breaker, string.format('c:%d', index), 1)
    if failed == 1 then
        redis.call('HINCRBY', keys.breaker, string.format('f:%d', index), 1)
    end
    redis.call('HSET', keys.breaker, 'in_a_row', in_a_row)
end

if call.wait_s then
    breaker.hint_until = math.max(breaker.hint_until or 0, now + call.wait_s)
    redis.call('HSET', keys.breaker, 'hint_until', text(breaker.hint_until))
end
if #breaker.old > 0 then
    redis.call('HDEL', keys.breaker, unpack(breaker.old))
end
-- A call whose slot was lost while its process was silent is released all the same: only its lease is over.
local has_lease = breaker.probes[call.id] ~= nil
if has_lease then
    redis.call('HDEL', keys.breaker, 'p:' .. call.id)
    breaker.probes[call.id] = nil
end
if call.result == 'success' or call.result == 'failure' then
    count_everywhere()
    if kind == '2' and state_of(breaker, now) == 'open' then
        judge_panic()
    end
end
if tonumber(era) == breaker.era then
    if breaker.open_until ~= nil then
        if has_lease then
            judge_probe()
        end
    elseif call.result == 'success' or call.result == 'failure' then
        count()
    end
end
keep(math.max(rules.idle_s, math.ceil((breaker.hint_until or now) - now) + 1), keys.breaker)
return 1
