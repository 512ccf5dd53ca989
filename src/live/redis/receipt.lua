
end

-- The end of once.lua.
local reply = append()
if reply[1] > 0 then
  local lease, cancel = string.match(reply[2], '^open %d+ (%d+) ([01]) ')
  redis.call('HSET', today, key,
    string.format('%s %.0f %s %s %s', request, reply[1], lease, cancel, now))
  redis.call('PEXPIREAT', today, expires)
end
return reply
