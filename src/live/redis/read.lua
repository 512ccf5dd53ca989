-- Reads a page of a task's log: counter and entries of the same instant.
--
-- KEYS  1 counter  2 list
-- ARGV  1 the number behind which to begin   2 entries at most   3 bytes at about most
-- Returns {number of the newest entry, entry, entry, …}.
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
local page = {last}
local after, limit, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if after >= last then return page end
-- The list holds the newest entries; what was before it is sealed.
local before_list = last - redis.call('LLEN', KEYS[2])
local index = math.max(after - before_list, 0)
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
