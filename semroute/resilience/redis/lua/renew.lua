-- Heartbeat of a process for its running calls. ARGV: time, rules, list of lists of permits, one for each endpoint. Gives
-- a slot again to a permit that had lost it.
local now = clock(KEYS[2], ARGV[1])
local rules, running = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
for i, ids in ipairs(running) do
    local keys = keys_of(i)
    for _, id in ipairs(ids) do
        local forgotten_at = tonumber(redis.call('ZSCORE', keys.leases, id))
        if forgotten_at and forgotten_at > now then
            redis.call('ZADD', keys.slots, text(math.min(now + rules.slot_s, forgotten_at)), id)
        end
    end
    keep(rules.idle_s, keys.leases, keys.slots, keys.permits)
end
return 1
