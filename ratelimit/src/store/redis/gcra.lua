-- Generic cell rate algorithm. Kept are a time and the burst capacity that was in use at it, which is what is left of the
-- theoretical arrival time without that time's size. Capacity is counted in hits times the window's milliseconds, so that each
-- millisecond frees exactly per_window of it. A debt lasts no longer than a window: what goes beyond limit + per_window is
-- forgiven once a millisecond has passed, and not when it is charged, since undo must find what its charge has left.
local gcra = {}

function gcra.charge(bucket, field, hits, window, per_window, limit)
  local name = prefix .. bucket .. '}v2:g' .. digits[window] .. ':' .. field
  local cell = window * 1000
  local most = limit + per_window
  local packed, at, used = call('GET', name), now, 0
  if packed then
    local kept = cmsgpack.unpack(packed)
    -- A clock that was set back frees nothing until it comes by again.
    at = math.max(now, kept[1])
    used = kept[2]
    if at > kept[1] then
      used = math.max(0, math.min(used, most * cell) - (at - kept[1]) * per_window)
    end
  end
  -- More hits than this at once are over just the same. Undo cuts its hits alike.
  hits = math.max(-most, math.min(hits, most))
  used = math.min(math.max(0, used + hits * cell), CEILING * cell)
  -- Redis refuses times beyond 64 bits.
  local lapse = math.min(math.ceil(used / per_window) + at - now, CEILING)
  if used == 0 and packed then
    call('DEL', name)
  elseif hits ~= 0 and used > 0 then
    call('SET', name, cmsgpack.pack({ at, used }), 'PX', digits[lapse])
  end
  return math.ceil(used / cell), seconds_left(lapse)
end

function gcra.undo(bucket, field, hits, window, per_window, limit)
  gcra.charge(bucket, field, -hits, window, per_window, limit)
end
