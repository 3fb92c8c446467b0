-- Ends a member's leases.
-- KEYS  members, ids, leases, coordinator
-- ARGV  id
local ids = redis.call('HGETALL', KEYS[2])
for i = 1, #ids, 2 do
  if ids[i + 1] == ARGV[1] then
    redis.call('HDEL', KEYS[1], ids[i])
    redis.call('HDEL', KEYS[2], ids[i])
    redis.call('ZREM', KEYS[3], ids[i])
  end
end
if redis.call('HGET', KEYS[4], 'id') == ARGV[1] then redis.call('HSET', KEYS[4], 'id', '', 'until', '0') end
return {'OK'}
