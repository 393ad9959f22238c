-- Charges a batch of requests, each as one step: all of its charges, less what a denied request must not cost.
-- The batch holds for each request the number of its charges in one byte, then those charges; script.rs writes them.
-- Returns numbers of eight bytes in one string: for each request 0 if it passes, 1 if it is denied, and for each of its
-- charges the count, before any undo, and the seconds until the counter is empty; or for a request that failed only a 2.
-- Behind it, if a request failed, the first error; and the time. If all failed, the call fails.
local CHARGE, CHARGE_BYTES = '<c4c14i8I4I4BBBI4', 41
local ALGORITHMS = { [0] = fixed_window, sliding_window, gcra, concurrency }
local DENIES_ALONE, DENIES_TOGETHER = 1, 2
local UNDO_DENIED, UNDO_DENIED_BY_OTHERS = 1, 2

local unpack_bytes = struct.unpack
local batch = ARGV[2]
local reply, replied = {}, 0

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

-- Takes back what a step has charged before it failed.
local function revert()
  for at = begun, tried - 1, CHARGE_BYTES do
    local bucket, field, hits, limit, window, _, _, algorithm, per_window = unpack_bytes(CHARGE, batch, at)
    if hits > 0 then
      ALGORITHMS[algorithm].undo(bucket, field, hits, window, per_window, limit)
    end
  end
end

local function step(first, last)
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

local at, size, failure, succeeded = 1, #batch, nil, false

local function steps()
  while at <= size do
    local first = at + 1
    -- Further on before anything can fail, so that the next call goes on with the next request.
    at = first + batch:byte(at) * CHARGE_BYTES
    step(first, at - 1)
    succeeded = true
  end
end

while at <= size do
  local done, problem = pcall(steps)
  if not done then
    pcall(revert)
    failure = failure or problem
    replied = replied + 1
    reply[replied] = 2
  end
end

if failure and type(failure) == 'table' then
  failure = failure.err
end
if failure and not succeeded then
  return redis.error_reply(failure)
end
return { struct.pack('<' .. string.rep('I8', replied), unpack(reply, 1, replied)), failure or false, now }
