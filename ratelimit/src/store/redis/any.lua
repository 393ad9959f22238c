-- Requests with charges of any kind. A charge is all that encoded.rs says about it; the reply has the count and the seconds left.
local CHARGE, CHARGE_BYTES = '<c4c14i8I4I4BBBI4', 41
local ALGORITHMS = { [0] = fixed_window, sliding_window, gcra, concurrency }
local DENIES_ALONE, DENIES_TOGETHER = 1, 2
local UNDO_DENIED, UNDO_DENIED_BY_OTHERS = 1, 2
local any = {}

local function undo_charges(first, last, from)
  for at = first, last, CHARGE_BYTES do
    local bucket, field, hits, limit, window, _, undo, algorithm, per_window = unpack_bytes(CHARGE, batch, at)
    local over = reply[from] > limit
    if hits > 0 and (undo == UNDO_DENIED or (undo == UNDO_DENIED_BY_OTHERS and not over)) then
      ALGORITHMS[algorithm].undo(bucket, field, hits, window, per_window, limit)
    end
    from = from + 2
  end
end

-- The first charge of the step under way, and the one it is at.
local begun, tried

function any.revert()
  for at = begun, tried - 1, CHARGE_BYTES do
    local bucket, field, hits, limit, window, _, _, algorithm, per_window = unpack_bytes(CHARGE, batch, at)
    if hits > 0 then
      ALGORITHMS[algorithm].undo(bucket, field, hits, window, per_window, limit)
    end
  end
end

function any.step(first, last)
  begun, tried = first, first
  local written, alone, together, together_within = replied + 1, false, false, false
  for at = first, last, CHARGE_BYTES do
    local bucket, field, hits, limit, window, denies, _, algorithm, per_window = unpack_bytes(CHARGE, batch, at)
    tried = at
    local count, left = ALGORITHMS[algorithm].charge(bucket, field, hits, window, per_window, limit)
    reply[written + 1], reply[written + 2] = count, left
    written = written + 2
    if denies == DENIES_ALONE then
      alone = alone or count > limit
    elseif denies == DENIES_TOGETHER then
      together, together_within = true, together_within or count <= limit
    end
  end
  local denied = alone or (together and not together_within)
  if denied then
    tried = begun -- What is undone twice would admit too much.
    undo_charges(first, last, replied + 2)
  end
  reply[replied + 1] = denied and 1 or 0
  replied = written
end

function any.skip()
end
