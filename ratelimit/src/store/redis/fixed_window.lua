-- Windows on the epoch's grid. All counters of a bucket in one window are fields of one hash, small enough to be packed by
-- Redis, which expires as a whole. The window's number is part of the name: no count can reach into the next window.
local fixed_window = {}

-- By length in seconds: the end of the hash's name, and the seconds left.
local windows = setmetatable({}, {
  __index = function(known, length)
    local elapsed = seconds % length
    local suffix = string.format('}v2:%.0f:%.0f', length, (seconds - elapsed) / length)
    local window = { suffix = suffix, left = length - elapsed }
    known[length] = window
    return window
  end,
})

-- What is left to do when hits have been added and led to a count that equals them, or is above the ceiling: the count.
function fixed_window.settle(name, field, hits, count, window)
  if count == hits and call('HLEN', name) == 1 then
    call('EXPIRE', name, digits[window.left])
  elseif count > CEILING then
    count = CEILING
    call('HSET', name, field, digits[CEILING])
  end
  return count
end

function fixed_window.charge(bucket, field, hits, length)
  local window = windows[length]
  local name = prefix .. bucket .. window.suffix
  if hits <= 0 then
    local count = tonumber(call('HGET', name, field) or '0')
    local back = math.min(count, -hits)
    if back > 0 then
      count = call('HINCRBY', name, field, digits[-back])
    end
    return count, window.left
  end
  local count = call('HINCRBY', name, field, digits[hits])
  if count == hits or count > CEILING then
    count = fixed_window.settle(name, field, hits, count, window)
  end
  return count, window.left
end

function fixed_window.undo(bucket, field, hits, length)
  call('HINCRBY', prefix .. bucket .. windows[length].suffix, field, digits[-hits])
end
