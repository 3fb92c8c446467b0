-- Marks a topic as dropped: from now on nothing is enlisted for it.
-- KEYS  the topic's tombstone
-- ARGV  for how many seconds it stays
redis.call('SET', KEYS[1], '1', 'EX', ARGV[1])
return {'OK'}
