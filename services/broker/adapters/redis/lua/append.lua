-- Appends chunks, all or none.
-- KEYS  meta, log, index of the partition
-- ARGV  ownerEpoch, member, number of this append, expected endOffset, new endOffset, new endByte,
--       then of each chunk: its id, its info, its frames
-- Reply {'OK'} | {'END', endOffset} | {'LATE'}: a later one was here before | a refusal
local refused = refusal(KEYS[1], ARGV[1], ARGV[2])
if refused then return refused end
local at, last = unpack(redis.call('HMGET', KEYS[1], 'end', 'appended'))
last = tonumber(last or 0)
if last > tonumber(ARGV[3]) then return {'LATE'} end
-- An equal number: the driver has sent the append twice, and it was done the first time.
if last < tonumber(ARGV[3]) then
  if (at or '0') ~= ARGV[4] then return {'END', at or '0'} end
  for i = 7, #ARGV, 3 do
    redis.call('XADD', KEYS[2], ARGV[i], 'i', ARGV[i + 1], 'f', ARGV[i + 2])
    redis.call('XADD', KEYS[3], ARGV[i], 'i', ARGV[i + 1])
  end
  redis.call('HSET', KEYS[1], 'end', ARGV[5], 'endByte', ARGV[6], 'appended', ARGV[3])
end
return {'OK'}
