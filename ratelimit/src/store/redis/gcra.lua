-- Generic cell rate algorithm. Kept are a time and the burst capacity that was in use at it, which is what is left of the
-- theoretical arrival time without that time's size. Capacity is counted in hits times the window's milliseconds, so that each
-- millisecond frees exactly per_window of it.
local gcra = {}

function gcra.charge(bucket, field, hits, window, per_window)
  local name = prefix .. bucket .. '}v2:g' .. digits[window] .. ':' .. field
  local cell = window * 1000
  local packed, at, used = call('GET', name), now, 0
  if packed then
    local kept = cmsgpack.unpack(packed)
    -- A clock that was set back frees nothing until it comes by again.
    at = math.max(now, kept[1])
    used = math.max(0, kept[2] - (at - kept[1]) * per_window)
  end
  used = math.min(math.max(0, used + hits * cell), CEILING * cell)
  local lapse = math.ceil(used / per_window) + at - now
  if used == 0 and packed then
    call('DEL', name)
  elseif hits ~= 0 and used > 0 then
    call('SET', name, cmsgpack.pack({ at, used }), 'PX', digits[lapse])
  end
  return math.ceil(used / cell), seconds_left(lapse)
end

function gcra.undo(bucket, field, hits, window, per_window)
  gcra.charge(bucket, field, -hits, window, per_window)
end
