-- Appends entries to a task's log. One script, so that no end can pass between looking at the fence and
-- acknowledging: the entries are counted, kept and published, or nothing happens.
--
-- KEYS  1 fence  2 counter  3 list  4 log: the generation it was begun in, the newest sealed number, bytes
--         ever appended, bytes in the list
-- ARGV  1 channel   2 timestamp   3 the worker the caller names, or ''   4 the token it shows, or ''
--       5 the fence to set where there is none   6 how long it stands, ms
--       7 '' or the fence that was seen before the durable truth was asked; then also
--       8 the open fence to set   9 the newest sealed number   10 when all expires, ms since 1970
--      11 the present generation  12 the generation of the log that was seen, '' for none  13 bytes sealed
--      14 entries that may be unsealed   15 bytes of a list that holds unsealed ones
--      16 the largest number   17 bytes of a log
--      18… the entries
-- PUBLISH is the command that does so, said in front of the script.
-- Returns {number of the last entry, the open fence}; {0, the fence that did not let the caller in}; {-2, ''} where
-- too much is unsealed; {-3, ''} where the log would become longer than it may.
local fence = redis.call('GET', KEYS[1])
if not fence then
  fence = ARGV[5]
  redis.call('SET', KEYS[1], fence, 'PX', ARGV[6])
end
local newest = tonumber(redis.call('GET', KEYS[2]) or '0')
local log = redis.call('HMGET', KEYS[4], 'generation', 'sealed', 'bytes', 'live')
local is_present = log[1] == ARGV[11] and newest > 0
local sealed, bytes, live = tonumber(log[2] or '0'), tonumber(log[3] or '0'), tonumber(log[4] or '0')

local verified = ARGV[7] ~= '' and (fence == ARGV[7] or fence == ARGV[8])
  and (log[1] == ARGV[11] or (log[1] or '') == ARGV[12])
if not verified then
  local token, holder = string.match(fence, '^open %d+ %d+ [01] (%S+) (.*)$')
  if not is_present or not token or (ARGV[4] ~= '' and token ~= ARGV[4])
      or (ARGV[3] ~= '' and holder ~= '' and holder ~= ARGV[3]) then
    return {0, fence}
  end
else
  fence = ARGV[8]
  redis.call('SET', KEYS[1], fence, 'PXAT', ARGV[10])
  local known = tonumber(ARGV[9])
  if not is_present or newest < known then
    -- What it held is sealed or gone: it begins anew, and never behind a number it has given.
    redis.call('DEL', KEYS[3])
    newest, sealed, live = math.max(newest, known), known, 0
    bytes = math.max(bytes, tonumber(ARGV[13]))
    redis.call('SET', KEYS[2], string.format('%.0f', newest), 'PXAT', ARGV[10])
    redis.call('HSET', KEYS[4], 'generation', ARGV[11], 'sealed', ARGV[9], 'live', 0)
  end
  sealed = math.max(sealed, known)
end

local count = #ARGV - 17
local lines, size = {}, 0
for i = 1, count do
  lines[i] = string.format('{"seqId":%.0f,"timestamp":"%s","progress":', newest + i, ARGV[2])
    .. ARGV[17 + i] .. '}'
  size = size + #lines[i]
end
if newest + count > tonumber(ARGV[16]) or bytes + size > tonumber(ARGV[17]) then return {-3, ''} end
if newest + count - sealed > tonumber(ARGV[14])
  or (newest > sealed and live + size > tonumber(ARGV[15])) then return {-2, ''} end

local last = redis.call('INCRBY', KEYS[2], count)
-- unpack is bounded by Lua's stack.
for from = 1, count, 1000 do
  redis.call('RPUSH', KEYS[3], unpack(lines, from, math.min(from + 999, count)))
end
redis.call('HSET', KEYS[4], 'bytes', string.format('%.0f', bytes + size),
  'live', string.format('%.0f', live + size))
if verified then
  redis.call('HSET', KEYS[4], 'sealed', string.format('%.0f', sealed))
  for key = 2, 4 do redis.call('PEXPIREAT', KEYS[key], ARGV[10]) end
end
redis.call(PUBLISH, ARGV[1], 'p' .. table.concat(lines, '\n'))
return {last, fence}
