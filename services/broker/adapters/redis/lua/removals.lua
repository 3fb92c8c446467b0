-- Reads which definitions were removed lately.
-- KEYS  removed and the greatest version that was forgotten, as in remove_definition.lua
-- Reply {the greatest version that was forgotten, "<field>\n<revision> <body>" of each that is remembered}
return {redis.call('GET', KEYS[2]) or '0', redis.call('ZRANGE', KEYS[1], 0, -1)}
