-- Reads a page of a task's log: counter and entries of the same instant.
--
-- KEYS  1 counter  2 list
-- ARGV  1 the number behind which to begin   2 entries at most   3 bytes at about most
-- Returns {number of the newest entry, the number behind which the list begins, entry, entry, …}.
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
local before_list = last - redis.call('LLEN', KEYS[2])
local page = {last, before_list}
local after, limit, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
-- The list holds the newest entries; what was before it is sealed, or gone.
if after >= last or after < before_list then return page end
local index = after - before_list
while limit > 0 and bytes > 0 do
  local lines = redis.call('LRANGE', KEYS[2], index, index + math.min(limit, 32) - 1)
  if #lines == 0 then break end
  for _, line in ipairs(lines) do
    page[#page + 1] = line
    bytes = bytes - #line
    if bytes <= 0 then break end
  end
  index = index + #lines
  limit = limit - #lines
end
return page
