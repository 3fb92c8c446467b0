-- Writes down that a topic has a partition here, unless the topic was dropped; dropTopic() finds it by that.
-- KEYS  the topic's set of partitions, its tombstone
-- ARGV  the partition
-- Reply {'OK'} | {'DROPPED'}
if redis.call('EXISTS', KEYS[2]) == 1 then return {'DROPPED'} end
redis.call('SADD', KEYS[1], ARGV[1])
return {'OK'}
