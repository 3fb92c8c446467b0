-- Writes cursors of one partition, each replacing its predecessor.
-- KEYS  meta, cursors of the partition
-- ARGV  ownerEpoch, member, number of this commit, then of each cursor: subscription, record
-- Reply {'OK'} | {'LATE'}: a later one was here before | a refusal
local refused = refusal(KEYS[1], ARGV[1], ARGV[2])
if refused then return refused end
if tonumber(redis.call('HGET', KEYS[1], 'committed') or 0) > tonumber(ARGV[3]) then return {'LATE'} end
for i = 4, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
end
redis.call('HSET', KEYS[1], 'committed', ARGV[3])
return {'OK'}
