-- Library: numbers that must not be given twice. A server that took over, or came back, may have forgotten
-- the last ones: then many are left out. One that keeps INFO from us can't be told apart from the one before.
local function server()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
end

-- How far the next number is from the last one, which the server `before` gave. A new server goes at least
-- 1,000 further, by its clock's microseconds: so two new servers hardly ever give the same number.
local function step(before)
  if not before or before == server() then return 1 end
  return 1000 + redis.call('TIME')[2]
end
