-- Library: what is known of the members, and the clock that counts. By name of the member:
--   members  its description
--   ids      its id
--   leases   until when it lives, in milliseconds of this server
-- coordinator is a hash {id, term, until, at}: `at` is when the last heartbeat was.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
