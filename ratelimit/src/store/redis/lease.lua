-- What replicas that lease say besides their charges. ARGV[2] is what; ARGV[3] is the replica. Greet, assert and return answer
-- with the epoch, or with an error if it is another one than the replica's.
local replica = ARGV[3]
local COUNTER, COUNTER_BYTES = '<c4c14I4I8I8', 38
-- A question is open for so many milliseconds; its answers are kept for as long, in seconds.
local ASKED, ANSWERED = 2000, 2

-- Calls visit(bucket, field, window, number, hits) for each counter whose window still runs.
local function each_running(packed, visit)
  for at = 1, #packed, COUNTER_BYTES do
    local bucket, field, window, number, hits = struct.unpack(COUNTER, packed, at)
    if number == math.floor(seconds / window) then
      visit(bucket, field, window, number, hits)
    end
  end
end

-- ARGV: epoch in which the ledger stands or nothing, number of the last return, milliseconds of a membership, milliseconds to
-- settle, members known. Answers with the epoch, 1 if it is open, the time, the members, and the counters that are asked for.
local function greet()
  local asserted, returned, membership, settle = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
  local epoch, open = enter()
  local began = tonumber(call('HGET', state_name, 'began'))
  local members, questions, fields = {}, {}, call('HGETALL', state_name)
  for i = 1, #fields, 2 do
    local id, counter = string.match(fields[i], '^m:(.*)'), string.match(fields[i], '^q:(.*)')
    if counter and tonumber(fields[i + 1]) > now then
      questions[#questions + 1] = counter
    elseif counter then
      call('HDEL', state_name, fields[i])
    elseif id then
      local expires, stands, last = string.match(fields[i + 1], '^(%d+) (%d*) (%d+)$')
      members[id] = { expires = tonumber(expires), asserted = stands, returned = tonumber(last), written = fields[i + 1] }
    end
  end
  local member = members[replica] or { returned = 0 }
  member.expires, member.asserted, member.returned = now + membership, asserted, math.max(member.returned, returned)
  members[replica] = member
  if not open then
    for i = 8, #ARGV do
      members[ARGV[i]] = members[ARGV[i]] or { expires = 0, asserted = '', returned = 0 }
    end
  end
  local all_stand, ids = true, {}
  for id, known in pairs(members) do
    if math.max(known.expires, began + membership) > now then
      ids[#ids + 1] = id
      all_stand = all_stand and known.asserted == epoch
      local text = digits[known.expires] .. ' ' .. known.asserted .. ' ' .. digits[known.returned]
      if text ~= known.written then
        call('HSET', state_name, 'm:' .. id, text)
      end
    else
      call('HDEL', state_name, 'm:' .. id)
    end
  end
  if not open and all_stand and now >= began + settle then
    open = true
    call('HSET', state_name, 'open', '1')
  end
  return { epoch, open and 1 or 0, now, ids, questions }
end

-- ARGV: epoch, counters with ledgers. Counts at least the sum of the ledgers; on top of nothing if all counts were lost.
local function assert_ledgers()
  local epoch, _, empty = enter()
  if epoch ~= ARGV[4] then
    return redis.error_reply('LEASE_EPOCH ' .. epoch)
  end
  each_running(ARGV[5], function(bucket, field, window, number, ledger)
    local name = prefix .. bucket .. '}v2:a' .. digits[window] .. ':' .. digits[number] .. ':' .. field
    local kept = call('HMGET', name, 'epoch', 'base', 'sum', replica)
    local base, sum, before = tonumber(kept[2]), tonumber(kept[3]), tonumber(kept[4] or '0')
    if kept[1] ~= epoch then
      call('DEL', name)
      base, sum, before = empty and 0 or fixed_window.charge(bucket, field, 0, window), 0, 0
    end
    ledger = math.max(ledger, before)
    local after = sum + ledger - before
    call('HSET', name, 'epoch', epoch, 'base', digits[base], 'sum', digits[after], replica, digits[ledger])
    call('EXPIRE', name, digits[window - seconds % window])
    local missing = math.max(base, after) - math.max(base, sum)
    if missing > 0 then
      fixed_window.charge(bucket, field, missing, window)
    end
  end)
  return epoch
end

-- ARGV: epoch, number of this return, counters with hits that were leased and not spent.
local function take_back()
  local refused = refusal(ARGV[4])
  if refused then
    return refused
  end
  local field = 'm:' .. replica
  local expires, stands, last = string.match(call('HGET', state_name, field) or '', '^(%d+) (%d*) (%d+)$')
  if expires and tonumber(last) < tonumber(ARGV[5]) then
    call('HSET', state_name, field, expires .. ' ' .. stands .. ' ' .. ARGV[5])
    each_running(ARGV[6], function(bucket, name, window, _, hits)
      fixed_window.charge(bucket, name, -hits, window)
    end)
  end
  return ARGV[4]
end

local function answers_to(counter)
  return prefix .. 'lease}v1:' .. counter
end

-- ARGV: 1 to begin, or 0 to go on until all have answered; counters. Asks all members what they hold of them. Returns the
-- members, and for each counter the names of those that have answered, each before its answer.
local function ask()
  local members, answers, fields = {}, {}, call('HGETALL', state_name)
  for i = 1, #fields, 2 do
    members[#members + 1] = string.match(fields[i], '^m:(.*)')
  end
  for i = 5, #ARGV do
    if ARGV[4] == '1' then
      call('HSET', state_name, 'q:' .. ARGV[i], digits[now + ASKED])
      call('DEL', answers_to(ARGV[i]))
    end
    answers[i - 4] = call('HGETALL', answers_to(ARGV[i]))
  end
  return { members, answers }
end

-- ARGV: counters, each before what the replica says of it.
local function answer()
  for i = 4, #ARGV, 2 do
    call('HSET', answers_to(ARGV[i]), replica, ARGV[i + 1])
    call('EXPIRE', answers_to(ARGV[i]), ANSWERED)
  end
  return 1
end

local verbs = { greet = greet, assert = assert_ledgers, ['return'] = take_back, ask = ask, answer = answer }
return verbs[ARGV[2]]()
