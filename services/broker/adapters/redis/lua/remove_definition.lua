-- Deletes a definition that is at the expected revision, and remembers it among those removed; forgets the
-- oldest of these.
-- KEYS  definitions: field → "<revision> <body>"; their version
--       removed: "<field>\n<revision> <body>" by the version of its removal;
--       the greatest of these versions that was forgotten
-- ARGV  field, expected revision, microseconds for which removals are remembered, how many at most, how many
--       whatever the clock says
-- Reply {'OK'} | {'AT', revision}: '0' if there is none
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local revision = stored and string.match(stored, '^%d+') or '0'
if revision ~= ARGV[2] or not stored then return {'AT', revision} end
redis.call('HDEL', KEYS[1], ARGV[1])
local at = changed(KEYS[2])
redis.call('ZADD', KEYS[3], at, ARGV[1] .. '\n' .. stored)
local count = redis.call('ZCARD', KEYS[3])
local excess = count - tonumber(ARGV[4])
local spare = count - tonumber(ARGV[5])
local oldest = redis.call('ZRANGE', KEYS[3], 0, 99, 'WITHSCORES')
for i = 1, #oldest, 2 do
  if i > 2 * spare then break end
  if i > 2 * excess and tonumber(oldest[i + 1]) > tonumber(at) - tonumber(ARGV[3]) then break end
  redis.call('ZREM', KEYS[3], oldest[i])
  redis.call('SET', KEYS[4], oldest[i + 1])
end
return {'OK'}
