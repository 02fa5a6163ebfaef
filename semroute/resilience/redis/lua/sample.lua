-- Sample one of several open endpoints and acquire its permit, in one step. ARGV: time, rules, {calls, signals, selection,
-- number, id}: the first endpoints, one for each of the signals (usd, expected_s, strength), are sampled from, the status
-- of the others is wanted only; `number` is random, from 0 to 1. Returns as JSON [statuses, sampled, answer of acquire()];
-- sampled is 0 where none is open, and where a key was refused, which the client may have replaced.
--
-- The probabilities are those of score() and sample() in semroute/dispatch/plan.py; a test compares the two.
local now, wall = clock(KEYS[2], ARGV[1])
local rules, asked = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
local month, ends = month_of(wall)

local DOUBTED_CALLS = 4

-- The least value divided by each; one that is not known is imputed as the median.
local function relative(open, name)
    local known, shares = {}, {}
    for _, one in ipairs(open) do
        if one[name] then
            table.insert(known, one[name])
        end
    end
    table.sort(known)
    local middle = (#known + 1) / 2
    local imputed = #known > 0 and (known[math.floor(middle)] + known[math.ceil(middle)]) / 2
    for i, one in ipairs(open) do
        local value = one[name] or imputed
        shares[i] = (not value or value <= known[1]) and 1 or known[1] / value
    end
    return shares
end

local function totals_of(open, selection)
    local costs, times, totals = relative(open, 'usd'), relative(open, 'expected_s'), {}
    local weights = selection.weights
    for i, one in ipairs(open) do
        local evidence = one.calls / (one.calls + DOUBTED_CALLS)
        local availability = (1 - one.failure_share * evidence) * one.headroom
        totals[i] = (weights.cost * costs[i] + weights.latency * times[i] + weights.availability * availability
            + weights.capability * one.strength)
            / (weights.cost + weights.latency + weights.availability + weights.capability)
    end
    return totals
end

local function probabilities_of(open, selection)
    local totals, highest, least_busy, ramps = totals_of(open, selection), -math.huge, math.huge, 0
    for i, one in ipairs(open) do
        highest, least_busy = math.max(highest, totals[i]), math.min(least_busy, one.in_flight)
        ramps = ramps + one.ramp
    end
    local weights, sum = {}, 0
    for i, one in ipairs(open) do
        weights[i] = math.exp(selection.sharpness * (totals[i] - highest)) * (1 + least_busy) / (1 + one.in_flight) * one.ramp
        sum = sum + weights[i]
    end
    local explored = selection.exploration
    for i, one in ipairs(open) do
        if sum <= 0 then
            weights[i] = 1 / #open
        else
            weights[i] = (1 - explored) * (weights[i] / sum) + explored * (one.ramp / ramps)
        end
    end
    return weights
end

local function sampled_from(open, selection, number)
    local probabilities, sum, passed = probabilities_of(open, selection), 0, 0
    for _, probability in ipairs(probabilities) do
        sum = sum + probability
    end
    for i, one in ipairs(open) do
        passed = passed + probabilities[i]
        if i == #open or number * sum < passed then
            return one.place
        end
    end
end

local found, open, sampled, is_refused = {}, {}, nil, false
for i, call in ipairs(asked.calls) do
    local keys, signal = keys_of(i), asked.signals[i]
    local status = status_of(keys, call, rules, now, month, ends, wall)
    found[i], is_refused = status, is_refused or status[11] ~= ''
    if signal and redis.call('HEXISTS', keys.permits, asked.id) == 1 then
        sampled = i  -- the call is repeated
    end
    if signal and status[9] == '0' then
        signal.place, signal.calls, signal.failure_share = i, status[2], tonumber(status[3])
        signal.ramp, signal.headroom, signal.in_flight = tonumber(status[4]), tonumber(status[5]), status[6]
        table.insert(open, signal)
    end
end
if not sampled and not is_refused and #open > 0 then
    sampled = sampled_from(open, asked.selection, asked.number)
end
if not sampled then
    return cjson.encode({found, 0, ''})
end
local call = asked.calls[sampled]
call.id, call.age_s = asked.id, 0
return cjson.encode({found, sampled, acquire(keys_of(sampled), call, rules, now, wall)})
