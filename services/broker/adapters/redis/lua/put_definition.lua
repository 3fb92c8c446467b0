-- Creates or replaces a definition that is at the expected revision.
-- KEYS  definitions: field → "<revision> <body>"; their version
-- ARGV  field, expected revision ('0': there is none), body
-- Reply {'OK', new revision} | {'AT', revision}
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local revision = stored and string.match(stored, '^%d+') or '0'
if revision ~= ARGV[2] then return {'AT', revision} end
local after = string.format('%.0f', tonumber(revision) + 1)
redis.call('HSET', KEYS[1], ARGV[1], after .. ' ' .. ARGV[3])
changed(KEYS[2])
return {'OK', after}
