-- Appends entries to a task's log. One script, so that no end can pass between looking at the fence and
-- acknowledging: the entries are counted, kept and published, or nothing happens.
--
-- KEYS  1 fence  2 counter  3 list
-- ARGV  1 channel   2 timestamp   3 the worker the caller names, or ''   4 the token it shows, or ''
--       5 the fence to set where there is none   6 how long it stands, ms
--       7 '' or the fence that was seen before the durable truth was asked; then also
--       8 the open fence to set   9 the newest sealed number   10 when all expires, ms since 1970
--       11… the entries
-- Returns {number of the last entry, the open fence}, or {0, the fence that did not let the caller in}.
local fence = redis.call('GET', KEYS[1])
if not fence then
  fence = ARGV[5]
  redis.call('SET', KEYS[1], fence, 'PX', ARGV[6])
end

local verified = ARGV[7] ~= '' and (fence == ARGV[7] or fence == ARGV[8])
if not verified then
  local token, holder = string.match(fence, '^open %d+ %d+ [01] (%S+) (.*)$')
  if not token or (ARGV[4] ~= '' and token ~= ARGV[4])
      or (ARGV[3] ~= '' and holder ~= '' and holder ~= ARGV[3]) then
    return {0, fence}
  end
else
  fence = ARGV[8]
  redis.call('SET', KEYS[1], fence, 'PXAT', ARGV[10])
  if tonumber(redis.call('GET', KEYS[2]) or '0') < tonumber(ARGV[9]) then
    redis.call('SET', KEYS[2], ARGV[9])
  end
end

local count = #ARGV - 10
local last = redis.call('INCRBY', KEYS[2], count)
local lines = {}
for i = 1, count do
  lines[i] = string.format('{"seqId":%.0f,"timestamp":"%s","progress":', last - count + i, ARGV[2])
    .. ARGV[10 + i] .. '}'
end
-- unpack is bounded by Lua's stack.
for from = 1, count, 1000 do
  redis.call('RPUSH', KEYS[3], unpack(lines, from, math.min(from + 999, count)))
end
if verified then
  redis.call('PEXPIREAT', KEYS[2], ARGV[10])
  redis.call('PEXPIREAT', KEYS[3], ARGV[10])
end
redis.call('PUBLISH', ARGV[1], 'p' .. table.concat(lines, '\n'))
return {last, fence}
