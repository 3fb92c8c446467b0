-- Reads the bounds of a log.
-- KEYS  meta, index of the partition
-- Reply what bounds() of partition.lua returns
return bounds(KEYS[1], KEYS[2])
