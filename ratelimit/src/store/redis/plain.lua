-- Plain requests, nearly all there are: each charge adds hits to a fixed window, denies the request above its limit, and is taken
-- back if the request is denied. Redis' time goes by what the script does for each charge, so it does less for these: a
-- charge has no terms (hits, limit, window) of its own while they are those of the plain charge before it in the batch.
-- Its first byte is 1 if new terms follow, else 0; then come bucket and field. The reply has no seconds left.
local TERMS, TERMS_BYTES, NAME_BYTES = '<I4I4I4', 12, 18
local plain = {}
local byte, sub = string.byte, string.sub

-- The terms in force, and the hits as text.
local hits, limit, window, added

local function take_terms(at)
  local length
  hits, limit, length = unpack_bytes(TERMS, batch, at)
  window, added = windows[length], digits[hits]
end

-- What the step under way has charged.
local names, fields, backs, charged = {}, {}, {}, 0

function plain.revert()
  local count = charged
  charged = 0 -- What is undone twice would admit too much.
  for i = 1, count do
    call('HINCRBY', names[i], fields[i], digits[-backs[i]])
  end
end

function plain.step(at, last)
  local written, denied = replied + 1, false
  charged = 0
  while at <= last do
    if byte(batch, at) == 1 then
      take_terms(at + 1)
      at = at + TERMS_BYTES
    end
    local name, field = prefix .. sub(batch, at + 1, at + 4) .. window.suffix, sub(batch, at + 5, at + NAME_BYTES)
    local count = call('HINCRBY', name, field, added)
    charged = charged + 1
    names[charged], fields[charged], backs[charged] = name, field, hits
    if count == hits or count > CEILING then
      count = fixed_window.settle(name, field, hits, count, window)
    end
    if count > limit then
      denied = true
    end
    written = written + 1
    reply[written] = count
    at = at + 1 + NAME_BYTES
  end
  if denied then
    plain.revert()
  end
  reply[replied + 1] = denied and 1 or 0
  replied = written
end

-- Takes the terms along that a request which failed has told, for those behind it.
function plain.skip(at, last)
  while at <= last do
    if byte(batch, at) == 1 then
      take_terms(at + 1)
      at = at + TERMS_BYTES
    end
    at = at + 1 + NAME_BYTES
  end
end
