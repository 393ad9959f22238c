-- Charges KEYS[i] in its fixed window on this server's clock, and takes back what a denied request must not cost.
-- ARGV holds five numbers for each key: hits, window in seconds, limit, what going over it denies (0 nothing, 1 the request,
-- 2 the request if all such keys are over), when to take the hits back (0 never, 1 if denied, 2 if denied and within the limit).
-- Returns the server's time in seconds, 1 if denied else 0, then the count of each key after its charge, before any undo.
local CEILING = 4503599627370496 -- 2^52; keeps counts exact in Lua's doubles, far above any limit

local now = tonumber(redis.call('TIME')[1])
local reply, counters = { now, 0 }, {}
local alone, together, together_over = false, 0, 0
for i, key in ipairs(KEYS) do
  local at = 5 * i - 4
  local hits, window, limit = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
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
  local over = count > limit
  if ARGV[at + 3] == '1' then
    alone = alone or over
  elseif ARGV[at + 3] == '2' then
    together = together + 1
    together_over = together_over + (over and 1 or 0)
  end
  counters[i], reply[i + 2] = counter, count
end

if alone or (together > 0 and together == together_over) then
  reply[2] = 1
  for i, counter in ipairs(counters) do
    local at = 5 * i - 4
    local hits, undo = tonumber(ARGV[at]), ARGV[at + 4]
    local over = reply[i + 2] > tonumber(ARGV[at + 2])
    if hits > 0 and (undo == '1' or (undo == '2' and not over)) then
      redis.call('DECRBY', counter, hits)
    end
  end
end
return reply
