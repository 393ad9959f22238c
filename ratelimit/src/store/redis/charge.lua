-- Charges a batch of requests, each as one step: all of its charges, less what a denied request must not cost.
-- The batch holds for each request a byte, 1 if it is plain, the size of its charges in two, then those; encoded.rs writes them.
-- Returns numbers of eight bytes in one string: for each request 0 if it passes, 1 if it is denied, and for each of its
-- charges the count, before any undo, and the seconds until the counter is empty, which are left out of a plain one; or for
-- a request that failed only a 2. Behind it, if a request failed, the first error; and the time. If all failed, the call fails.
local at, size, failure, succeeded = 1, #batch, nil, false
-- The request under way: how it is charged, and where it stands.
local kind, first, last
local any

local function steps()
  while at <= size do
    local is_plain, low, high = byte(batch, at, at + 2)
    -- Further on before anything can fail, so that the next call goes on with the next request.
    first, last = at + 3, at + 2 + low + 256 * high
    at = last + 1
    if is_plain == 1 then
      kind = plain
    else
      any = any or load_any()
      kind = any
    end
    kind.step(first, last)
    succeeded = true
  end
end

while at <= size do
  local done, problem = pcall(steps)
  if not done then
    pcall(kind.revert)
    kind.skip(first, last)
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
