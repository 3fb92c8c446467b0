-- Checks a claim and writes something, so that WAIT and WAITAOF on this connection cover all earlier writes.
-- KEYS  meta of the partition
-- ARGV  ownerEpoch, member, the endOffset that the log has at least
-- Reply {'OK'} | {'END', endOffset} | a refusal
local refused = refusal(KEYS[1], ARGV[1], ARGV[2])
if refused then return refused end
local at = redis.call('HGET', KEYS[1], 'end') or '0'
if tonumber(at) < tonumber(ARGV[3]) then return {'END', at} end
redis.call('HSET', KEYS[1], 'end', at)
return {'OK'}
