-- Put before the scripts that change definitions (scripts.ts). The version is another number after every change, also when
-- a failover has forgotten some of them: so it is the time, in microseconds, and not a count.
local function changed(version)
  local time = redis.call('TIME')
  local at = string.format('%.0f', time[1] * 1000000 + time[2])
  if redis.call('GET', version) == at then at = string.format('%.0f', tonumber(at) + 1) end
  redis.call('SET', version, at)
end
