
end

-- The end of once.lua.
local reply = append()
if reply[1] > 0 then
  redis.call('HSET', today, key, string.format('%s %.0f %s', request, reply[1], now))
  redis.call('PEXPIREAT', today, expires)
end
return reply
