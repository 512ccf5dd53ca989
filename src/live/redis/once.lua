-- Stands around append.lua where the request has a key: looks for its receipt first, whatever the fence says, and
-- leaves one with the entries.
--
-- Behind what append.lua takes:
-- KEYS  receipts of today, of yesterday
-- ARGV  the key   the fingerprint   now, in microseconds   the first instant whose receipts are kept, in microseconds
--       when the receipts of today expire, ms since 1970
-- Returns what append.lua returns, or {-1, the receipt} where there is one, whose fingerprint may be another.
local expires, kept, now, request, key = table.remove(ARGV), table.remove(ARGV), table.remove(ARGV),
  table.remove(ARGV), table.remove(ARGV)
local yesterday, today = table.remove(KEYS), table.remove(KEYS)

local receipt = redis.call('HGET', today, key) or redis.call('HGET', yesterday, key)
if receipt and tonumber(string.match(receipt, '%d+$')) > tonumber(kept) then
  return {-1, receipt}
end

local function append()
