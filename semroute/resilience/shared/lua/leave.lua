-- Give a pass back. ARGV: time, rules, call (id, ending, account; tokens, amount, wait_s, reason where they are known;
-- random from 0 to 1). Returns 1, or 0 for a pass that is not out: it came back already, or was forgotten.
local now = clock(ARGV[1])
local rules, call = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local keys = keys_of(1)

local pass = redis.call('HGET', keys.passes, call.id)
if not pass or tonumber(redis.call('ZSCORE', keys.leases, call.id)) <= now then
    return 0
end
redis.call('HDEL', keys.passes, call.id)
redis.call('ZREM', keys.leases, call.id)
local era, _, month, amount = string.match(pass, '^(%S+) (%S+) (%S+) (%S+)$')

local reserved = call.tokens and redis.call('HGET', keys.tokens, call.id)
if reserved then
    redis.call('HSET', keys.tokens, call.id, call.tokens)
    redis.call('HINCRBY', keys.tokens, SUM, call.tokens - tonumber(reserved))
end
if call.amount and month == month_of(now) then
    redis.call('HINCRBY', keys.spent, month, call.amount - tonumber(amount))
    keep(rules.month_s, keys.spent)
end
if call.ending == 'disable' then
    redis.call('HSETNX', keys.disabled, call.account, call.reason)
    keep(rules.month_s, keys.disabled)
end

local breaker = breaker_of(keys.breaker, rules, now)

-- An era ends: everything counted in it goes, the leases of probes that still run and the hint stay.
local function begin_era(fields)
    redis.call('DEL', keys.breaker)
    redis.call('HSET', keys.breaker, 'era', breaker.era + 1, unpack(fields))
    for id, lost_at in pairs(breaker.probes) do
        redis.call('HSET', keys.breaker, 'p:' .. id, text(lost_at))
    end
    if breaker.hint_until then
        redis.call('HSET', keys.breaker, 'hint_until', text(breaker.hint_until))
    end
end

local function open(why)
    local longest_s = math.min(rules.open_s * 2 ^ math.min(breaker.failed_probes, 64), rules.most_open_s)
    local until_then = now + longest_s * (1 - rules.jitter * call.random)
    begin_era({'open_until', text(until_then), 'why', why, 'failed_probes', breaker.failed_probes})
end

local function judge_probe()
    if call.ending == 'failure' then
        breaker.failed_probes = breaker.failed_probes + 1
        open('a probe failed')
    elseif call.ending == 'success' then
        if breaker.successes + 1 >= rules.successes then
            begin_era({'ramp_from', text(now)})
        else
            redis.call('HINCRBY', keys.breaker, 'successes', 1)
        end
    end
end

local function count()
    local index = bucket_of(now, rules)
    local failed = call.ending == 'failure' and 1 or 0
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
local has_lease = breaker.probes[call.id] ~= nil
if has_lease then
    redis.call('HDEL', keys.breaker, 'p:' .. call.id)
    breaker.probes[call.id] = nil
end
if tonumber(era) == breaker.era then
    if breaker.open_until ~= nil then
        if has_lease then
            judge_probe()
        end
    elseif call.ending == 'success' or call.ending == 'failure' then
        count()
    end
end
keep(math.max(rules.idle_s, math.ceil((breaker.hint_until or now) - now) + 1), keys.breaker)
return 1
