-- Renews a member's lease, and takes or renews the coordinator's if that is free or its own. A draining
-- member takes none and gives its own back.
-- KEYS  identity, members, ids, leases, coordinator, assignment, drained
-- ARGV  identity, id, name, description, lease in milliseconds, '1' if it drains,
--       '1' if it has had a lease before
-- Reply {'OK', descriptions, coordinator's id, its term, version of the assignment, names of the drained,
--         '1' if it was missed: it has had a lease before, and somebody has seen it ended}
--       | {'IDENTITY', what there is} | {'NAME', id of the living member of that name}
local identity = redis.call('GET', KEYS[1])
if identity ~= ARGV[1] then return {'IDENTITY', identity or ''} end
local at = now()
local till = string.format('%.0f', at + tonumber(ARGV[5]))
local back = tonumber(redis.call('HGET', KEYS[5], 'at') or 0) - at
if back > 0 then
  -- The clock went back, this server's or from one server's to another's. Leases go back with it, or the dead
  -- would live that much longer.
  for _, name in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do redis.call('ZINCRBY', KEYS[4], -back, name) end
  local ends = tonumber(redis.call('HGET', KEYS[5], 'until') or 0)
  if ends > 0 then redis.call('HSET', KEYS[5], 'until', string.format('%.0f', ends - back)) end
end
redis.call('HSET', KEYS[5], 'at', string.format('%.0f', at))
local missed = ARGV[7] == '1'
  and (redis.call('HGET', KEYS[3], ARGV[3]) ~= ARGV[2] or not redis.call('ZSCORE', KEYS[4], ARGV[3]))
local held = redis.call('HGET', KEYS[3], ARGV[3]) == ARGV[2]
  and tonumber(redis.call('ZSCORE', KEYS[4], ARGV[3]) or 0) > at
if ARGV[7] == '1' and not held then
  -- Nobody could reach this server, or it took over without knowing the last heartbeats: the others may live,
  -- too. A former process of this member's name does not: that it has ended is why this one got the name.
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', at)) do
    if name ~= ARGV[3] then redis.call('ZADD', KEYS[4], till, name) end
  end
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', at)) do
  redis.call('HDEL', KEYS[2], name)
  redis.call('HDEL', KEYS[3], name)
  redis.call('ZREM', KEYS[4], name)
end
local namesake = redis.call('HGET', KEYS[3], ARGV[3])
if namesake and namesake ~= ARGV[2] then return {'NAME', namesake} end
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
redis.call('HSET', KEYS[3], ARGV[3], ARGV[2])
redis.call('ZADD', KEYS[4], till, ARGV[3])

local id, term, ends = unpack(redis.call('HMGET', KEYS[5], 'id', 'term', 'until'))
id, term = id or '', tonumber(term or 0)
local free = tonumber(ends or 0) <= at
if ARGV[6] == '1' then
  if id == ARGV[2] or free then id, till = '', '0' else till = false end
elseif free then
  id, term = ARGV[2], term + 1
elseif id ~= ARGV[2] then
  till = false
end
term = string.format('%.0f', term)
if till then redis.call('HSET', KEYS[5], 'id', id, 'term', term, 'until', till) end
return {
  'OK', redis.call('HVALS', KEYS[2]), id, term,
  redis.call('HGET', KEYS[6], 'version') or '0', redis.call('SMEMBERS', KEYS[7]), missed and '1' or '0'
}
