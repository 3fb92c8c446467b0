-- Library: a partition's meta, with the check of claims and the bounds of the log. The meta is a hash:
--   epoch     the newest ownerEpoch given        holder    the member that has it; '' once released
--   end       the log's endOffset                endByte   bytes of frames ever appended
--   appended  number of the last append          committed number of the last cursor commit
--   released  the member that released it
--   skipped   ranges of the log that were given up, "first-end first-end"
--   dropped   the topic was dropped: nothing but this is left, for a day
-- Numbers of appends and commits come from the holder, rising; acquire.lua forgets them, and `released`.

-- What speaks against a write with this claim; nil if nothing does.
local function refusal(meta, epoch, member)
  local stored, holder, dropped = unpack(redis.call('HMGET', meta, 'epoch', 'holder', 'dropped'))
  if dropped then return {'DROPPED'} end
  stored, holder, epoch = tonumber(stored or 0), holder or '', tonumber(epoch)
  if epoch < stored or (epoch == stored and epoch > 0 and holder ~= member) then
    return {'STALE', stored, holder}
  end
  if epoch > stored then return {'BEHIND', stored} end
  return nil
end

-- {endOffset, endByte, id of the first chunk, its info}, the last two absent while the log is empty.
local function bounds(meta, index)
  local stored = redis.call('HMGET', meta, 'end', 'endByte')
  local first = redis.call('XRANGE', index, '-', '+', 'COUNT', 1)[1]
  local reply = {stored[1] or '0', stored[2] or '0'}
  if first then
    reply[3], reply[4] = first[1], first[2][2]
  end
  return reply
end
