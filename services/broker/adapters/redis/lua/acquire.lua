-- Gives the next ownerEpoch to a member.
-- KEYS  meta, note of the partition
-- ARGV  member, an epoch to be above, '1' if this repeats a call of unknown outcome, '1' if the partition
--       may be missing although that epoch was given, milliseconds for which a note that was read stays,
--       the epoch that the partition must have, or ''
-- Reply {'OK', ownerEpoch, note or nil} | {'TAKEN'} | {'MISSING'} | {'DROPPED'}
local stored, holder, dropped = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'holder', 'dropped'))
if dropped then return {'DROPPED'} end
if not stored and tonumber(ARGV[2]) > 0 and ARGV[4] ~= '1' then return {'MISSING'} end
if ARGV[6] ~= '' and (stored or '0') ~= ARGV[6] then return {'TAKEN'} end
-- The note is for the first owner after the release, which may have to ask twice.
local note = false
if (holder or '') == '' or (holder == ARGV[1] and ARGV[3] == '1') then
  note = redis.call('GET', KEYS[2])
  if note then redis.call('PEXPIRE', KEYS[2], ARGV[5]) end
else
  redis.call('DEL', KEYS[2])
end
local epoch = string.format('%.0f', math.max(tonumber(stored or 0), tonumber(ARGV[2])) + 1)
redis.call('HSET', KEYS[1], 'epoch', epoch, 'holder', ARGV[1])
redis.call('HDEL', KEYS[1], 'appended', 'committed', 'released')
return {'OK', epoch, note}
