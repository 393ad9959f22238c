-- Hits by age. A window is cut into spans of equal length; kept is how many hits came in each, as a packed list of
-- number, hits, number, hits, oldest first. A span counts as long as any of it lies within the last window, so no interval
-- of a window's length ever takes more than the limit. Spans of at least 17 ms: the clock is exact to one.
local SPANS = 60

-- `letter` tells the counters of one algorithm from those of others.
local function by_age(letter)
  local algorithm = {}

  -- Spans that still count, how many numbers describe them, and the sum of their hits.
  local function read(name, oldest)
    local packed = call('GET', name)
    local spans, length, count = {}, 0, 0
    if packed then
      local kept = cmsgpack.unpack(packed)
      for i = 1, #kept, 2 do
        if kept[i] >= oldest then
          spans[length + 1], spans[length + 2] = kept[i], kept[i + 1]
          length, count = length + 2, count + kept[i + 1]
        end
      end
    end
    return spans, length, count
  end

  local function write(name, spans, lapse)
    if #spans == 0 then
      call('DEL', name)
    else
      call('SET', name, cmsgpack.pack(spans), 'PX', digits[lapse])
    end
  end

  -- Gives hits back, oldest first: what stays then counts no shorter than it would have.
  local function give_back(spans, hits)
    local left = {}
    for i = 1, #spans, 2 do
      local back = math.min(spans[i + 1], hits)
      hits = hits - back
      if spans[i + 1] > back then
        left[#left + 1] = spans[i]
        left[#left + 1] = spans[i + 1] - back
      end
    end
    return left
  end

  local function name_of(bucket, field, window)
    return prefix .. bucket .. '}v2:' .. letter .. digits[window] .. ':' .. field
  end

  function algorithm.charge(bucket, field, hits, window)
    local name, milliseconds = name_of(bucket, field, window), window * 1000
    local span = math.ceil(milliseconds / SPANS)
    local spans, length, count = read(name, math.floor((now - milliseconds) / span))
    if hits > 0 then
      local current = math.floor(now / span)
      hits = math.min(hits, CEILING - count)
      -- A clock that was set back adds to what it wrote before.
      if length > 0 and spans[length - 1] >= current then
        spans[length] = spans[length] + hits
      else
        spans[length + 1], spans[length + 2] = current, hits
      end
    elseif hits < 0 then
      spans = give_back(spans, -hits)
    end
    length = #spans
    local lapse = length == 0 and 0 or (spans[length - 1] + 1) * span + milliseconds - now
    if hits ~= 0 then
      write(name, spans, lapse)
    end
    return math.max(0, count + hits), seconds_left(lapse)
  end

  function algorithm.undo(bucket, field, hits, window)
    local name, milliseconds = name_of(bucket, field, window), window * 1000
    local span = math.ceil(milliseconds / SPANS)
    local spans, length = read(name, math.floor((now - milliseconds) / span))
    if length == 0 then
      return
    end
    spans[length] = spans[length] - math.min(hits, spans[length])
    if spans[length] == 0 then
      spans[length - 1], spans[length] = nil, nil
      length = length - 2
    end
    write(name, spans, length == 0 and 0 or (spans[length - 1] + 1) * span + milliseconds - now)
  end

  return algorithm
end

local sliding_window = by_age('s')
