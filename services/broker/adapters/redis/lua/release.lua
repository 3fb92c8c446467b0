-- Gives a partition up and leaves a note for the next owner.
-- KEYS  meta, note of the partition
-- ARGV  ownerEpoch, member, note, milliseconds for which the note stays
-- Reply {'OK'} | a refusal
local stored, holder, by = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'holder', 'released'))
-- Done already: the first call's answer was lost.
if stored == ARGV[1] and holder == '' and by == ARGV[2] then return {'OK'} end
local refused = refusal(KEYS[1], ARGV[1], ARGV[2])
if refused then return refused end
redis.call('HSET', KEYS[1], 'holder', '', 'released', ARGV[2])
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
return {'OK'}
