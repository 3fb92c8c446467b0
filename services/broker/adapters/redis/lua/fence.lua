-- Reads the bounds of a log after an append of unknown outcome: from now on that append is too late, should
-- it still be under way.
-- KEYS  meta, index of the partition
-- ARGV  member, a number that is greater than that append's
-- Reply what bounds() of partition.lua returns
local holder, last = unpack(redis.call('HMGET', KEYS[1], 'holder', 'appended'))
if (holder or '') == ARGV[1] and tonumber(last or 0) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'appended', ARGV[2])
end
return bounds(KEYS[1], KEYS[2])
