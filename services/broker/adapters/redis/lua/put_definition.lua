-- Creates or replaces a definition that is at the expected revision.
-- KEYS  definitions: field → "<revision> <body>"; their version
-- ARGV  field, expected revision ('0': there is none), body, new revision
-- Reply {'OK'} | {'AT', revision}
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local revision = stored and string.match(stored, '^%d+') or '0'
if revision ~= ARGV[2] then return {'AT', revision} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4] .. ' ' .. ARGV[3])
changed(KEYS[2])
return {'OK'}
