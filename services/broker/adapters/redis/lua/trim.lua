-- Deletes the oldest chunks that are wholly below an offset.
-- KEYS  meta, log, index of the partition
-- ARGV  ownerEpoch, member, the offset, the most chunks to delete
-- Reply {'OK', bounds…} | a refusal
local refused = refusal(KEYS[1], ARGV[1], ARGV[2])
if refused then return refused end
local before, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local entries = redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', most + 1)
local due = 0
while due < #entries and due < most and tonumber(string.match(entries[due + 1][1], '^%d+')) <= before do
  due = due + 1
end
if due > 0 then
  for i = 2, 3 do
    if due < #entries then
      redis.call('XTRIM', KEYS[i], 'MINID', entries[due + 1][1])
    else
      redis.call('XTRIM', KEYS[i], 'MAXLEN', 0)
    end
  end
end
return {'OK', unpack(bounds(KEYS[1], KEYS[3]))}
