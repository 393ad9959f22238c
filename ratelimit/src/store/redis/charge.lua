-- Charges KEYS[i] with ARGV[2i-1] hits in its fixed window of ARGV[2i] seconds, on this server's clock.
-- Returns the server's time in seconds, then the count of each key after its charge.
local CEILING = 4503599627370496 -- 2^52; keeps counts exact in Lua's doubles, far above any limit

local now = tonumber(redis.call('TIME')[1])
local reply = { now }
for i, key in ipairs(KEYS) do
  local hits, window = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local elapsed = now % window
  -- The window's number is part of the name: a count can never reach into the next window, however late keys expire.
  local counter = key .. string.format(':%.0f', (now - elapsed) / window)
  local count
  if hits > 0 then
    count = redis.call('INCRBY', counter, hits)
    if count == hits then
      redis.call('EXPIRE', counter, window - elapsed)
    elseif count > CEILING then
      count = CEILING
      redis.call('SET', counter, string.format('%.0f', CEILING), 'KEEPTTL')
    end
  else
    count = tonumber(redis.call('GET', counter) or '0')
    local back = math.min(count, -hits)
    if back > 0 then
      count = redis.call('DECRBY', counter, back)
    end
  end
  reply[i + 1] = count
end
return reply
