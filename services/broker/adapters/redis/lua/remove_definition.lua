-- Deletes a definition that is at the expected revision.
-- KEYS  definitions: field → "<revision> <body>"; their version
-- ARGV  field, expected revision
-- Reply {'OK'} | {'AT', revision}: '0' if there is none
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local revision = stored and string.match(stored, '^%d+') or '0'
if revision ~= ARGV[2] or not stored then return {'AT', revision} end
redis.call('HDEL', KEYS[1], ARGV[1])
changed(KEYS[2])
return {'OK'}
