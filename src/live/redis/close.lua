-- Closes the fence of an attempt: no entry of it, or of an earlier one, is acknowledged after. And reads what the log
-- holds, in the same instant: an end is one round trip while it has the task's row.
--
-- KEYS  1 fence  2 counter  3 list  4 log  5 receipts of yesterday  6 of today
-- ARGV  1 the attempt   2 how long it stays closed, ms
--       3 entries, 4 bytes of them, 5 receipts that are read here at most: more are left to be read by pages
-- Returns {number of the newest entry, the number behind which the list begins, the generation of the log or '',
-- entries, receipts}: entries all or none, receipts as key, receipt, key, receipt …, those of yesterday first, or
-- nil where they are too many. {-1} where a later attempt has the log already.
local fence = redis.call('GET', KEYS[1])
local attempt = fence and string.match(fence, '^%a+ (%d+)')
if attempt and string.sub(fence, 1, 8) ~= 'opening ' and tonumber(attempt) > tonumber(ARGV[1]) then
  return {-1}
end
redis.call('SET', KEYS[1], 'closed ' .. ARGV[1], 'PX', ARGV[2])

local log = redis.call('HMGET', KEYS[4], 'generation', 'live')
local newest = tonumber(redis.call('GET', KEYS[2]) or 0)
if newest == 0 then return {0, 0, log[1] or '', {}, {}} end
local length = redis.call('LLEN', KEYS[3])
local entries, receipts = {}, {}
if length <= tonumber(ARGV[3]) and tonumber(log[2] or 0) <= tonumber(ARGV[4]) then
  entries = redis.call('LRANGE', KEYS[3], 0, -1)
end
if redis.call('HLEN', KEYS[5]) + redis.call('HLEN', KEYS[6]) > tonumber(ARGV[5]) then
  receipts = false
else
  for key = 5, 6 do
    for _, text in ipairs(redis.call('HGETALL', KEYS[key])) do receipts[#receipts + 1] = text end
  end
end
return {newest, newest - length, log[1] or '', entries, receipts}
