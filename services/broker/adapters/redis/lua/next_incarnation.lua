-- Gives a number that was never given before.
-- KEYS  incarnation: {last, by: the server that gave it}
-- ARGV  a number that is known to have been given
local last, by = unpack(redis.call('HMGET', KEYS[1], 'last', 'by'))
local number = string.format('%.0f', math.max(tonumber(last or 0) + step(by), tonumber(ARGV[1]) + 1))
redis.call('HSET', KEYS[1], 'last', number, 'by', server())
return number
