-- Publishes a task's end and deletes its log, unless entries are in it that are not sealed: then the
-- fence is closed again and all stays. Doing it twice does no harm.
--
-- KEYS  1 fence  2 counter  3 list  4 log; what else is to be deleted
-- ARGV  1 channel   2 the end   3 the newest sealed number   4 the attempt   5 how long it stays closed, ms
-- PUBLISH is the command that does so, said in front of the script.
-- Returns 1, or 0 where entries are to be sealed first.
if tonumber(redis.call('GET', KEYS[2]) or '0') > tonumber(ARGV[3]) then
  redis.call('SET', KEYS[1], 'closed ' .. ARGV[4], 'PX', ARGV[5])
  return 0
end
redis.call(PUBLISH, ARGV[1], 's' .. ARGV[2])
redis.call('DEL', unpack(KEYS))
return 1
