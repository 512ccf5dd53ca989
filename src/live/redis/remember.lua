-- Replaces the generation of this memory, if it is still the one that was found: of several nodes that
-- notice a loss at once one names the new generation.
--
-- KEYS  1 generation
-- ARGV  1 what was found, or '' for nothing   2 what shall stand
-- Returns what stands now.
local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then return found end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]
