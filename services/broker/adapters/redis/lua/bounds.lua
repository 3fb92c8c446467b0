-- KEYS  meta, index of the partition
-- Reply as of bounds()
return bounds(KEYS[1], KEYS[2])
