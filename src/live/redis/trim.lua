-- Lets go of entries that are sealed. A log that is gone stays gone.
--
-- KEYS  1 counter  2 list  3 log
-- ARGV  1 the newest sealed number   2 how many of the newest entries stay, sealed or not
-- Returns how many entries left the list.
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
local known = redis.call('HMGET', KEYS[3], 'sealed', 'live')
if last == 0 or not known[1] then return 0 end
local sealed = math.max(tonumber(ARGV[1]), tonumber(known[1]))
local length = redis.call('LLEN', KEYS[2])
local leave = math.min(length - tonumber(ARGV[2]), sealed - (last - length))
local left, freed = 0, 0
-- The reply of each step is bounded.
while left < leave do
  local lines = redis.call('LPOP', KEYS[2], math.min(leave - left, 1000))
  for _, line in ipairs(lines) do freed = freed + #line end
  left = left + #lines
end
redis.call('HSET', KEYS[3], 'sealed', string.format('%.0f', sealed),
  'live', string.format('%.0f', math.max(tonumber(known[2] or '0') - freed, 0)))
return left
