-- A sliding window over a sorted set, in one script: KEYS[1]; now and window in microseconds, limit, member.
redis.call('zremrangebyscore', KEYS[1], '-inf', ARGV[1] - ARGV[2])
if redis.call('zcard', KEYS[1]) >= tonumber(ARGV[3]) then
  return 0
end
redis.call('zadd', KEYS[1], ARGV[1], ARGV[4])
redis.call('pexpire', KEYS[1], math.ceil(ARGV[2] / 1000))
return 1
