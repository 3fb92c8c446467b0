-- Writes down that a subscription has cursors in partitions; dropSubscription() finds them by that.
-- KEYS  the subscription's set of partitions
-- ARGV  partitions
redis.call('SADD', KEYS[1], unpack(ARGV))
return {'OK'}
