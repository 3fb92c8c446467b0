-- Library: how the version of the definitions changes. It is another number after every change, also when a
-- failover has forgotten some of them: so it is the time, in microseconds, and not a count.
local function changed(version)
  local time = redis.call('TIME')
  local before = tonumber(redis.call('GET', version) or 0)
  local at = string.format('%.0f', math.max(time[1] * 1000000 + time[2], before + 1))
  redis.call('SET', version, at)
  return at
end
