-- Appends entries to a task's log. One script, so that no end can pass between looking at the fence and
-- acknowledging: the entries are counted, kept and published, or nothing happens.
--
-- KEYS  1 fence  2 counter  3 list  4 log: the generation it was begun in, the newest sealed number, bytes
--         ever appended, bytes in the list
-- ARGV  1 channel   2 timestamp   3 the worker the caller names, or ''
--       4 the fence to set where there is none   5 how long it stands, ms
--       6 '' or the fence that was seen before the durable truth was asked; then also
--       7 the open fence to set   8 the newest sealed number   9 when all expires, ms since 1970
--      10 the present generation  11 the generation of the log that was seen, '' for none  12 bytes sealed
--      13 entries that may be unsealed   14 bytes of a list that holds unsealed ones
--      15 the largest number   16 bytes of a log
--      17… the entries
-- Returns {number of the last entry}; {0, the fence that did not let the caller in}; {-1} where too much is
-- unsealed; {-2} where the log would become too long.
local fence = redis.call('GET', KEYS[1])
if not fence then
  fence = ARGV[4]
  redis.call('SET', KEYS[1], fence, 'PX', ARGV[5])
end
local newest = tonumber(redis.call('GET', KEYS[2]) or '0')
local log = redis.call('HMGET', KEYS[4], 'generation', 'sealed', 'bytes', 'live')
local is_present = log[1] == ARGV[10] and newest > 0
local sealed, bytes, live = tonumber(log[2] or '0'), tonumber(log[3] or '0'), tonumber(log[4] or '0')

local verified = ARGV[6] ~= '' and (fence == ARGV[6] or fence == ARGV[7])
  and (log[1] == ARGV[10] or (log[1] or '') == ARGV[11])
if not verified then
  local holder = string.match(fence, '^open %d+ (.*)$')
  if not is_present or not holder or (ARGV[3] ~= '' and holder ~= '' and holder ~= ARGV[3]) then
    return {0, fence}
  end
else
  redis.call('SET', KEYS[1], ARGV[7], 'PXAT', ARGV[9])
  local known = tonumber(ARGV[8])
  if not is_present or newest < known then
    -- What it held is sealed or gone: it begins anew, and never behind a number it has given.
    redis.call('DEL', KEYS[3])
    newest, sealed, live = math.max(newest, known), known, 0
    bytes = math.max(bytes, tonumber(ARGV[12]))
    redis.call('SET', KEYS[2], string.format('%.0f', newest), 'PXAT', ARGV[9])
    redis.call('HSET', KEYS[4], 'generation', ARGV[10], 'sealed', ARGV[8], 'live', 0)
  end
  sealed = math.max(sealed, known)
end

local count = #ARGV - 16
local lines, size = {}, 0
for i = 1, count do
  lines[i] = string.format('{"seqId":%.0f,"timestamp":"%s","progress":', newest + i, ARGV[2])
    .. ARGV[16 + i] .. '}'
  size = size + #lines[i]
end
if newest + count > tonumber(ARGV[15]) or bytes + size > tonumber(ARGV[16]) then return {-2} end
if newest + count - sealed > tonumber(ARGV[13])
  or (newest > sealed and live + size > tonumber(ARGV[14])) then return {-1} end

local last = redis.call('INCRBY', KEYS[2], count)
-- unpack is bounded by Lua's stack.
for from = 1, count, 1000 do
  redis.call('RPUSH', KEYS[3], unpack(lines, from, math.min(from + 999, count)))
end
redis.call('HSET', KEYS[4], 'bytes', string.format('%.0f', bytes + size),
  'live', string.format('%.0f', live + size))
if verified then
  redis.call('HSET', KEYS[4], 'sealed', string.format('%.0f', sealed))
  for key = 2, 4 do redis.call('PEXPIREAT', KEYS[key], ARGV[9]) end
end
redis.call('PUBLISH', ARGV[1], 'p' .. table.concat(lines, '\n'))
return {last}
