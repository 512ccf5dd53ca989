-- Takes a fence away that is open or being opened, or that is the closed one which is named: the next
-- append asks the durable truth.
--
-- KEYS  1 fence
-- ARGV  1 '' or the closed fence that goes, too
local fence = redis.call('GET', KEYS[1])
if fence and (string.sub(fence, 1, 7) ~= 'closed ' or fence == ARGV[1]) then
  redis.call('DEL', KEYS[1])
end
