-- Deletes a partition whose topic is gone and leaves a note that it was dropped.
-- KEYS  meta, log, index, note of the partition
-- ARGV  for how many seconds the note stays
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('HSET', KEYS[1], 'dropped', '1')
redis.call('EXPIRE', KEYS[1], ARGV[1])
return {'OK'}
