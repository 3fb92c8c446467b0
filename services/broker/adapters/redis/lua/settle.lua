-- As bounds.lua, after an append of unknown outcome: from now on that append, should it still be under way, is too late.
-- KEYS  meta, index of the partition
-- ARGV  member, a number that is greater than that append's
-- Reply as of bounds()
local holder, last = unpack(redis.call('HMGET', KEYS[1], 'holder', 'appended'))
if (holder or '') == ARGV[1] and tonumber(last or 0) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'appended', ARGV[2])
end
return bounds(KEYS[1], KEYS[2])
