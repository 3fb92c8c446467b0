-- Gives a number that was never given before. A server that took over, or came back, may have forgotten the last ones: then
-- many are left out.
-- KEYS  incarnation: {last, by}
-- ARGV  how many
-- A server that keeps INFO from us can't be told apart from the one before.
local info = redis.pcall('INFO', 'server')
local by = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
local last, before = unpack(redis.call('HMGET', KEYS[1], 'last', 'by'))
local step = (before and before ~= by) and tonumber(ARGV[1]) or 1
local number = string.format('%.0f', tonumber(last or 0) + step)
redis.call('HSET', KEYS[1], 'last', number, 'by', by)
return number
