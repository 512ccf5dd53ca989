-- Appends entries to a task's log. One script, so that no end can pass between looking at the fence and
-- acknowledging: the entries are counted, kept and published, or nothing happens.
--
-- KEYS  1 fence  2 counter  3 list  4 log: the generation it was begun in, the newest sealed number, bytes
--         ever appended, bytes in the list
-- ARGV  1 channel   2 the worker the caller names, or ''   3 the token it shows, or ''
--       4 the present generation   5 the fence to set where there is none
--       6 the largest number   7 bytes of a log
--       8 how many entries; then each of them, as what stands behind its number
--       and behind them, if the durable truth was asked, what it said:
--       1 the fence that was seen before   2 the open fence to set   3 when all expires, ms since 1970
--       4 the newest sealed number   5 bytes sealed   6 the generation of the log that was seen, '' for none
-- PUBLISH is the command that does so; OPENING_FOR how long a fence may stay between being asked for and being
-- opened, ms; WINDOW entries that may be unsealed, WINDOW_BYTES bytes of a list that holds such. They are said in
-- front of the script, for every argument of every append costs.
-- MARK is the key of the generation, or nil where it is at another server.
-- Returns {number of the last entry, the open fence}; {0, the fence that did not let the caller in, the generation of the
-- log or '', number of its newest entry, what the mark says or ''}; {-2, ''} where too much is unsealed; {-3, ''}
-- where the log would become longer than it may.
local found = redis.call('MGET', KEYS[1], KEYS[2])
local fence, newest = found[1], tonumber(found[2] or 0)
if not fence then
  fence = ARGV[5]
  redis.call('SET', KEYS[1], fence, 'PX', OPENING_FOR)
end
local log = redis.call('HMGET', KEYS[4], 'generation', 'sealed', 'bytes', 'live')
local is_present = log[1] == ARGV[4] and newest > 0
local sealed, bytes, live = tonumber(log[2] or 0), tonumber(log[3] or 0), tonumber(log[4] or 0)

local count = tonumber(ARGV[8])
local seen, open, expires, known, known_bytes, begun = unpack(ARGV, 9 + count)
local verified = seen and (fence == seen or fence == open)
  and (log[1] == ARGV[4] or (log[1] or '') == begun)
local is_anew = false
if verified then
  known = tonumber(known)
  if not is_present or newest < known then
    -- What it held is sealed or gone: it begins anew, and never behind a number it has given.
    is_anew = true
    newest, sealed, live = math.max(newest, known), known, 0
    bytes = math.max(bytes, tonumber(known_bytes))
  end
  sealed = math.max(sealed, known)
else
  local token, holder = string.match(fence, '^open %d+ %d+ [01] (%S+) (.*)$')
  if not is_present or not token or (ARGV[3] ~= '' and token ~= ARGV[3])
      or (ARGV[2] ~= '' and holder ~= '' and holder ~= ARGV[2]) then
    return {0, fence, log[1] or '', newest, MARK and redis.call('GET', MARK) or ''}
  end
end

local lines, size = {}, 0
for i = 1, count do
  local line = string.format('{"seqId":%d', newest + i) .. ARGV[8 + i]
  lines[i] = line
  size = size + #line
end
local last = newest + count
if last > tonumber(ARGV[6]) or bytes + size > tonumber(ARGV[7]) then return {-3, ''} end
if last - sealed > WINDOW or (newest > sealed and live + size > WINDOW_BYTES) then return {-2, ''} end
bytes, live = string.format('%d', bytes + size), string.format('%d', live + size)

if verified then
  fence = open
  if is_anew then redis.call('DEL', KEYS[3]) end
  redis.call('SET', KEYS[1], fence, 'PXAT', expires)
  redis.call('SET', KEYS[2], string.format('%d', last), 'PXAT', expires)
  redis.call('HSET', KEYS[4], 'generation', ARGV[4], 'sealed', string.format('%d', sealed),
    'bytes', bytes, 'live', live)
else
  redis.call('INCRBY', KEYS[2], count)
  redis.call('HSET', KEYS[4], 'bytes', bytes, 'live', live)
end
-- unpack is bounded by Lua's stack.
for from = 1, count, 1000 do
  redis.call('RPUSH', KEYS[3], unpack(lines, from, math.min(from + 999, count)))
end
if verified then
  for key = 3, 4 do redis.call('PEXPIREAT', KEYS[key], expires) end
end
redis.call(PUBLISH, ARGV[1], 'p' .. table.concat(lines, '\n'))
return {last, fence}
