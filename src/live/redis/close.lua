-- Closes the fence of an attempt: no entry of it, or of an earlier one, is acknowledged after.
--
-- KEYS  1 fence  2 counter
-- ARGV  1 the attempt   2 how long it stays closed, ms
-- Returns the number of the newest entry, or -1 where a later attempt has the log already.
local fence = redis.call('GET', KEYS[1])
local attempt = fence and string.match(fence, '^%a+ (%d+)')
if attempt and string.sub(fence, 1, 8) ~= 'opening ' and tonumber(attempt) > tonumber(ARGV[1]) then
  return -1
end
redis.call('SET', KEYS[1], 'closed ' .. ARGV[1], 'PX', ARGV[2])
return tonumber(redis.call('GET', KEYS[2]) or '0')
