-- Writes down that a range of a log is given up.
-- KEYS  meta of the partition
-- ARGV  the range as "first-end"
-- Reply {'OK'} | {'DROPPED'}
local before, dropped = unpack(redis.call('HMGET', KEYS[1], 'skipped', 'dropped'))
if dropped then return {'DROPPED'} end
if not string.find(' ' .. (before or '') .. ' ', ' ' .. ARGV[1] .. ' ', 1, true) then
  redis.call('HSET', KEYS[1], 'skipped', (before and before .. ' ' or '') .. ARGV[1])
end
return {'OK'}
