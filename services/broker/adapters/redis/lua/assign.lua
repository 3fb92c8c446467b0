-- Replaces the assignment, if the caller coordinates and knows the current one.
-- KEYS  coordinator, assignment: {version, body, by: the server that gave the version}
-- ARGV  id, term, expected version, body
-- Reply {'OK', new version} | {'COORDINATOR', id, term} | {'VERSION', version}
local id, term, ends = unpack(redis.call('HMGET', KEYS[1], 'id', 'term', 'until'))
if id ~= ARGV[1] or term ~= ARGV[2] or tonumber(ends or 0) <= now() then
  return {'COORDINATOR', id or '', term or '0'}
end
local stored, by = unpack(redis.call('HMGET', KEYS[2], 'version', 'by'))
local version = stored or '0'
if version ~= ARGV[3] then return {'VERSION', version} end
version = string.format('%.0f', tonumber(version) + step(by))
redis.call('HSET', KEYS[2], 'version', version, 'body', ARGV[4], 'by', server())
return {'OK', version}
