-- Common part of all scripts. Each script is this text and its own, so that it runs as one atomic step.
--
-- The rules are exactly those of in-process admission control (breaker.py and limits.py of
-- semroute/resilience): the same windows, eras, waits and reasons; tests run both with one clock and compare. Time is
-- the server's, in seconds; money is whole billionths of a dollar; numbers with a fraction are stored and returned as
-- text with 17 digits, because Redis cuts Lua's numbers to integers and tostring() to 14 digits.

local ASK_AGAIN_S = 0.25
local RAMP_START = 0.1
local PANIC_FACTOR = 4
local NO_ERA = -1
local CLOCK_STEP_S = 0.05 -- resolution of the stored time
local DAY_S = 86400
local BUCKETS = 30
local PER_USD = 1e9
local SUM = '#'           -- field of the running sum, next to the tokens of each permit

local function text(number)
    return string.format('%.17g', number)
end

-- Monotonic time, and the calendar's. `key` holds the latest time ("last") and the sum by which the server's clock has
-- been set back since ("ahead"): a wait of a minute must not last an hour and a minute because the clock was corrected
-- meanwhile. Months follow the calendar.
local function clock(key, override)
    local wall = tonumber(override)
    if wall == nil then
        local time = redis.call('TIME')
        wall = tonumber(time[1]) + tonumber(time[2]) / 1e6
    end
    local seen = redis.call('HMGET', key, 'last', 'ahead')
    local last, ahead = tonumber(seen[1]), tonumber(seen[2]) or 0
    local now = wall + ahead
    if last and now < last then
        now = last
        redis.call('HSET', key, 'ahead', text(last - wall))
    elseif not last or now >= last + CLOCK_STEP_S then
        redis.call('HSET', key, 'last', text(now))
    else
        return now, wall
    end
    redis.call('EXPIRE', key, 2 * DAY_S)
    return now, wall
end

-- Seconds from now to a moment, never a rounding error short: now + until(...) >= moment.
local function until_moment(moment, now)
    local wait = math.max(moment - now, 0)
    local step = 1e-9
    while now + wait < moment do
        wait = wait + step
        step = step * 2
    end
    return wait
end

-- A wait is {seconds or nil if no waiting helps, reason}; nil is no wait.
local function longest(one, other)
    if one == nil or other == nil then
        return one or other
    end
    if one[1] == nil or other[1] == nil then
        return one[1] == nil and one or other
    end
    return one[1] >= other[1] and one or other
end

local function fields_of(key)
    local flat, fields = redis.call('HGETALL', key), {}
    for i = 1, #flat, 2 do
        fields[flat[i]] = flat[i + 1]
    end
    return fields
end

-- Keys of one endpoint, in the order in which the client names them.
local KEYS_OF_AN_ENDPOINT = 7
local function keys_of(number)
    local first = 3 + (number - 1) * KEYS_OF_AN_ENDPOINT
    return {
        disabled = KEYS[1],             -- hash: login -> disabled credential, see disabled_of; KEYS[2]: clock
        breaker = KEYS[first],          -- hash: the breaker, its buckets and probes, and the provider's hint
        log = KEYS[first + 1],          -- sorted set: permits of the last minute by the time they were given
        tokens = KEYS[first + 2],       -- hash: tokens of the permits in the log, and their sum
        permits = KEYS[first + 3],       -- hash: unreleased permits, as "era probe month amount"
        leases = KEYS[first + 4],       -- sorted set: unreleased permits by the time they are dropped
        slots = KEYS[first + 5],        -- sorted set: the same by the time to which their process sent heartbeats
        spent = KEYS[first + 6],        -- hash: month -> billionths of a dollar that the account spent or reserved
    }
end

------------------------------------------------------------------------------------------------------------ breaker --

local function bucket_of(now, rules)
    return math.floor(now / (rules.window_s / BUCKETS))
end

-- Fields of an era besides its counts; the others outlast it.
local FIELDS_OF_AN_ERA = {'open_until', 'why', 'failed_probes', 'successes', 'bad_probes', 'good_in_panic', 'in_a_row',
    'ramp_from'}
-- Counts by bucket: of the era, and of all eras.
local COUNTS = {['c:'] = 'calls', ['f:'] = 'failures', ['a:'] = 'all_calls', ['b:'] = 'all_good'}

-- A stored moment, clamped to the rules: another version, or a clock that was set wrong, may have written it.
local function moment_of(key, stored, field, latest)
    local moment = tonumber(stored[field])
    if moment and moment > latest then
        moment = latest
        redis.call('HSET', key, field, text(latest))
    end
    return moment
end

-- The breaker as stored. Besides its plain fields there are "c:<bucket>" (calls), "f:<bucket>" (failures), those of all
-- eras as "a:" (calls) and "b:" (good ones), "p:<permit>" (end of a probe's lease) and "s_..." of a suspension; `old`
-- lists those that no longer count.
local function breaker_of(keys, rules, now)
    local key = keys.breaker
    local stored = fields_of(key)
    local breaker = {
        era = tonumber(stored.era or 0),
        open_until = moment_of(key, stored, 'open_until', now + rules.most_open_s),
        why = stored.why or '',
        failed_rounds = tonumber(stored.failed_probes or 0),  -- so called by versions that opened at the first failure
        good_probes = tonumber(stored.successes or 0),
        bad_probes = tonumber(stored.bad_probes or 0),
        good_in_panic = tonumber(stored.good_in_panic or 0),
        panicked_at = tonumber(stored.panicked_at),
        in_a_row = tonumber(stored.in_a_row or 0),
        ramp_from = tonumber(stored.ramp_from),
        hint_until = moment_of(key, stored, 'hint_until', now + rules.most_hint_s),
        suspended = {
            ['until'] = moment_of(key, stored, 's_until', now + math.max(rules.most_suspend_s, rules.probe_lease_s)),
            times = tonumber(stored.s_times or 0),
            probe = stored.s_probe,
            why = stored.s_why or '',
            refused = stored.s_refused,
        },
        probes = {},
        calls = 0,
        failures = 0,
        all_calls = 0,
        all_good = 0,
        of_the_era = {},
        old = {},
    }
    local oldest = bucket_of(now, rules) - BUCKETS
    for field, value in pairs(stored) do
        local kind, name = string.sub(field, 1, 2), string.sub(field, 3)
        if kind == 'p:' then
            -- A probe of a process that was killed is lost with its slot.
            local slot = tonumber(value) > now and redis.call('ZSCORE', keys.slots, name)
            if slot and tonumber(slot) > now then
                breaker.probes[name] = tonumber(value)
            else
                table.insert(breaker.old, field)
            end
        elseif COUNTS[kind] and tonumber(name) <= oldest then
            table.insert(breaker.old, field)
        elseif COUNTS[kind] then
            breaker[COUNTS[kind]] = breaker[COUNTS[kind]] + tonumber(value)
            if kind == 'c:' or kind == 'f:' then
                table.insert(breaker.of_the_era, field)
            end
        end
    end
    return breaker
end

local function state_of(breaker, now)
    if breaker.open_until == nil then
        return 'closed'
    end
    return now < breaker.open_until and 'open' or 'half_open'
end

local function ramp_of(breaker, rules, now)
    if breaker.open_until ~= nil then
        return now < breaker.open_until and 0 or RAMP_START
    end
    if breaker.ramp_from == nil then
        return 1
    end
    local passed_s = now - breaker.ramp_from
    if passed_s >= rules.ramp_s then
        return 1
    end
    return RAMP_START + (1 - RAMP_START) * passed_s / rules.ramp_s
end

local function breaker_wait(breaker, rules, now)
    local state = state_of(breaker, now)
    if state == 'closed' then
        return nil
    end
    if state == 'open' then
        return {until_moment(breaker.open_until, now), 'breaker open: ' .. breaker.why}
    end
    local count, first = 0, nil
    for _, lost_at in pairs(breaker.probes) do
        count = count + 1
        first = math.min(first or lost_at, lost_at)
    end
    if count < rules.probes then
        return nil
    end
    return {math.min(ASK_AGAIN_S, until_moment(first, now)), 'breaker half-open: ' .. count .. ' probes are under way'}
end

local function lets_panic(breaker, rules, now, sample)
    if rules.panic_per_s <= 0 then
        return false
    end
    if not breaker.panicked_at or now >= breaker.panicked_at + 1 / rules.panic_per_s then
        return true
    end
    local calls = breaker.all_calls
    return calls > 0 and sample < math.min((PANIC_FACTOR * breaker.all_good + 1) / (calls + 1), 1)
end

--------------------------------------------------------------------------------------- suspensions and disabled keys --

local function suspension_wait(suspended, now)
    local moment = suspended['until']
    if moment == nil or now >= moment then
        return nil
    end
    local wait_s = until_moment(moment, now)
    if not suspended.probe then
        return {wait_s, 'suspended: ' .. suspended.why}
    end
    return {math.min(ASK_AGAIN_S, wait_s), 'suspended, a probe is under way: ' .. suspended.why}
end

-- A disabled credential as {login, reason, refused, probe_at, probe}, else nil. Stored as JSON; earlier versions stored
-- the reason alone, by account and for all hosts: such a key may be probed at once.
local function disabled_of(key, call)
    local login = call.login
    local stored = redis.call('HGET', key, login)
    if not stored and call.account ~= login then
        login = call.account
        stored = redis.call('HGET', key, login)
    end
    if not stored then
        return nil
    end
    local is_json, entry = pcall(cjson.decode, stored)
    if not is_json or type(entry) ~= 'table' or type(entry.reason) ~= 'string' then
        entry = {reason = stored}
    end
    entry.login, entry.probe_at = login, tonumber(entry.probe_at) or 0
    return entry
end

local function disable(key, entry)
    redis.call('HSET', key, entry.login, cjson.encode({
        reason = entry.reason, refused = entry.refused, probe = entry.probe, probe_at = text(entry.probe_at)}))
end

----------------------------------------------------------------------------------------------------------- throttle --

-- Drop permits older than a minute from the log. One look if there are none, then a hundred at a time.
local function drop_old_requests(keys, rules, now)
    local last = 0
    while true do
        local some, ids = redis.call('ZRANGE', keys.log, 0, last, 'WITHSCORES'), {}
        for i = 1, #some, 2 do
            -- Compared as "at + 60 <= now", as the in-process log does, so that both round equally.
            if tonumber(some[i + 1]) + rules.minute_s > now then
                break
            end
            table.insert(ids, some[i])
        end
        if #ids == 0 then
            return
        end
        local freed = 0
        for _, tokens in ipairs(redis.call('HMGET', keys.tokens, unpack(ids))) do
            freed = freed + tonumber(tokens or 0)
        end
        redis.call('HDEL', keys.tokens, unpack(ids))
        redis.call('HINCRBY', keys.tokens, SUM, 0 - freed)  -- not -freed: HINCRBY takes no "-0"
        redis.call('ZREMRANGEBYRANK', keys.log, 0, #ids - 1)
        last = 99
    end
end

-- Drop permits that were never released.
local function drop_lost_permits(keys, now)
    local lost = redis.call('ZRANGEBYSCORE', keys.leases, '-inf', text(now), 'LIMIT', 0, 1000)
    if #lost > 0 then
        redis.call('ZREM', keys.leases, unpack(lost))
        redis.call('ZREM', keys.slots, unpack(lost))
        redis.call('HDEL', keys.permits, unpack(lost))
    end
    redis.call('ZREMRANGEBYSCORE', keys.slots, '-inf', text(now))
end

-- Usage that counts against the limits; the log only if a limit reads it.
local function used_by(keys, call, rules, now)
    local used = {requests = 0, tokens = 0, in_flight = redis.call('ZCOUNT', keys.slots, '(' .. text(now), '+inf')}
    if call.rpm or call.tpm then
        drop_old_requests(keys, rules, now)
        used.requests = redis.call('ZCARD', keys.log)
        used.tokens = tonumber(redis.call('HGET', keys.tokens, SUM) or 0)
    end
    return used
end

-- Time at which enough of the oldest permits have left the log to free `over` tokens.
local function tokens_free_at(keys, rules, over)
    local from = 0
    while true do
        local some = redis.call('ZRANGE', keys.log, from, from + 99, 'WITHSCORES')
        local ids = {}
        for i = 1, #some, 2 do
            table.insert(ids, some[i])
        end
        if #ids == 0 then
            return nil
        end
        for i, tokens in ipairs(redis.call('HMGET', keys.tokens, unpack(ids))) do
            over = over - tonumber(tokens or 0)
            if over <= 0 then
                return tonumber(some[2 * i]) + rules.minute_s
            end
        end
        from = from + 100
    end
end

local function tokens_wait(keys, rules, call, used, now)
    if call.tokens > call.tpm then
        return {nil, string.format(
            'a call of %d tokens is larger than the limit of %d tokens a minute', call.tokens, call.tpm)}
    end
    local over = used.tokens + call.tokens - call.tpm
    local moment = over > 0 and tokens_free_at(keys, rules, over)
    if not moment then
        return nil
    end
    return {until_moment(moment, now), string.format(
        '%d of %d tokens a minute are left, the call needs %d', math.max(call.tpm - used.tokens, 0), call.tpm, call.tokens)}
end

-- Wait for the end of a parallel call; without recent heartbeats of any slot's process, until the first slot expires.
local function parallel_wait(keys, rules, now)
    local last = redis.call('ZREVRANGE', keys.slots, 0, 0, 'WITHSCORES')
    if not last[2] or tonumber(last[2]) - now > rules.slot_s / 2 then
        return ASK_AGAIN_S
    end
    local first = redis.call('ZRANGEBYSCORE', keys.slots, '(' .. text(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    return math.max(until_moment(tonumber(first[2]), now), ASK_AGAIN_S)
end

local function throttle_wait(keys, rules, call, used, hint_until, now)
    local found = nil
    if hint_until and now < hint_until then
        found = {until_moment(hint_until, now), 'the provider asked to wait'}
    end
    if call.parallel and used.in_flight >= call.parallel then
        found = longest(found, {parallel_wait(keys, rules, now), string.format(
            '%d of %d parallel calls are running', used.in_flight, call.parallel)})
    end
    if call.rpm and used.requests >= call.rpm then
        local last = redis.call('ZRANGE', keys.log, used.requests - call.rpm, used.requests - call.rpm, 'WITHSCORES')
        found = longest(found, {until_moment(tonumber(last[2]) + rules.minute_s, now), string.format(
            '%d requests a minute are used up', call.rpm)})
    end
    if call.tpm then
        found = longest(found, tokens_wait(keys, rules, call, used, now))
    end
    return found
end

------------------------------------------------------------------------------------------------------------- budget --

-- The calendar month (UTC) of a moment, and the moment at which the next one begins. Days to date and back as in
-- https://howardhinnant.github.io/date_algorithms.html (civil_from_days, days_from_civil), for years after 1970.
local function month_of(now)
    local days = math.floor(now / 86400) + 719468
    local era = math.floor(days / 146097)
    local day = days - era * 146097
    local year = math.floor((day - math.floor(day / 1460) + math.floor(day / 36524) - math.floor(day / 146096)) / 365)
    local of_year = day - (365 * year + math.floor(year / 4) - math.floor(year / 100))
    local from_march = math.floor((5 * of_year + 2) / 153)
    local month = from_march < 10 and from_march + 3 or from_march - 9
    year = year + era * 400 + (month <= 2 and 1 or 0)
    local of_month = of_year - math.floor((153 * from_march + 2) / 5)
    local lengths = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
    local leap = (year % 4 == 0 and year % 100 ~= 0) or year % 400 == 0
    local length = (month == 2 and leap) and 29 or lengths[month]
    local ends = (math.floor(now / 86400) + length - of_month) * 86400
    return string.format('%04d-%02d', year, month), ends
end

local function budget_wait(call, spent, ends, now)
    if not call.budget then
        return nil
    end
    if call.amount > call.budget then
        return {nil, string.format('a call of %g USD is dearer than the monthly budget of %s, %g USD',
            call.amount / PER_USD, call.account, call.budget / PER_USD)}
    end
    if spent + call.amount <= call.budget then
        return nil
    end
    return {until_moment(ends, now), string.format('%.2f of %g USD are spent of the monthly budget of %s',
        spent / PER_USD, call.budget / PER_USD, call.account)}
end

--------------------------------------------------------------------------------------------------------- all limits --

local function headroom_of(call, used, spent)
    local room = 1
    if call.parallel then
        room = math.min(room, 1 - (used.in_flight + 1) / call.parallel)
    end
    if call.rpm then
        room = math.min(room, 1 - (used.requests + 1) / call.rpm)
    end
    if call.tpm then
        room = math.min(room, 1 - (used.tokens + call.tokens) / call.tpm)
    end
    if call.budget then
        room = math.min(room, call.budget > 0 and 1 - (spent + call.amount) / call.budget or 0)
    end
    return math.max(room, 0)
end

-- Status of an endpoint for a call; changes nothing but to drop old entries.
local function look(keys, call, rules, now, month, ends, wall)
    local seen = {
        disabled = disabled_of(keys.disabled, call),
        breaker = breaker_of(keys, rules, now),
        used = used_by(keys, call, rules, now),
        spent = tonumber(redis.call('HGET', keys.spent, month) or 0),
    }
    seen.closed = breaker_wait(seen.breaker, rules, now)
    if seen.disabled and now < seen.disabled.probe_at then
        seen.other = {nil, call.name .. ' is disabled: ' .. seen.disabled.reason}
    else
        local ours = throttle_wait(keys, rules, call, seen.used, seen.breaker.hint_until, now)
        seen.other = longest(suspension_wait(seen.breaker.suspended, now), ours)
        seen.other = longest(seen.other, budget_wait(call, seen.spent, ends, wall))
    end
    seen.wait = longest(seen.closed, seen.other)
    return seen
end

-- Unused keys expire, after longer than any of their data matters.
local function keep(seconds, ...)
    for _, key in ipairs({...}) do
        redis.call('EXPIRE', key, seconds)
    end
end

-- What the client reads of an endpoint: [breaker, calls, failure share, ramp, headroom, in flight, spent, month, wait
-- ('0' none, '' no waiting helps), reason, digest of the refused key or ''].
local function status_of(keys, call, rules, now, month, ends, wall)
    local seen = look(keys, call, rules, now, month, ends, wall)
    local breaker, wait = seen.breaker, seen.wait
    local state, ramp, refused = state_of(breaker, now), ramp_of(breaker, rules, now), breaker.suspended.refused
    if breaker.suspended['until'] then
        state, ramp = 'suspended', suspension_wait(breaker.suspended, now) and 0 or RAMP_START
    end
    if seen.disabled then
        state, ramp = 'disabled', now >= seen.disabled.probe_at and RAMP_START or 0
        refused = seen.disabled.refused
    end
    return {
        state,
        breaker.calls,
        text(breaker.calls > 0 and breaker.failures / breaker.calls or 0),
        text(ramp),
        text(headroom_of(call, seen.used, seen.spent)),
        seen.used.in_flight,
        seen.spent,
        month,
        wait and (wait[1] and text(wait[1]) or '') or '0',
        wait and wait[2] or '',
        refused or '',
    }
end

-- Acquire a permit and reserve. Returns [true, is probe, spent, month, is panic] or [false, wait or '', reason]. A permit
-- that is given already is returned again, so that the call may be repeated; one with `is_imported` was given elsewhere
-- `age_s` seconds ago and is imported: it is counted unconditionally; one with `panic`, a number from 0 to 1, may be
-- permitted by an open breaker.
local function acquire(keys, call, rules, now, wall)
    local month, ends = month_of(wall)
    drop_lost_permits(keys, now)
    local seen = look(keys, call, rules, now, month, ends, wall)
    local known = redis.call('HGET', keys.permits, call.id)
    if call.is_imported and not known and redis.call('ZSCORE', keys.log, call.id) then
        known = '-1 0'  -- it is counted and released
    end
    if known then
        local kind = string.match(known, '^%S+ (%S+)')
        return {true, kind == '1', seen.spent, month, kind == '2'}
    end
    local wait, is_panic = seen.wait, false
    if seen.closed and call.panic and lets_panic(seen.breaker, rules, now, call.panic) then
        wait, is_panic = seen.other, true
    end
    if wait and not call.is_imported then
        return {false, wait[1] and text(wait[1]) or '', wait[2]}
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
    return {true, is_probe, seen.spent + call.amount, month, is_panic}
end

