-- Which life of the counts this is, for replicas that lease. What they charge names its epoch, and is refused in any other,
-- or while the epoch waits for ledgers. The same rules are `lease::Authority` in Rust.
local state_name = prefix .. 'lease}v1'

-- A restart changes the replication id, and so does a copy that takes over.
local function this_run()
  return string.match(call('INFO', 'replication'), 'master_replid:(%x+)')
end

-- The epoch, whether it is open, and whether its counts began at nothing.
local function enter()
  local run, kept = this_run(), call('HMGET', state_name, 'run', 'epoch', 'open', 'empty')
  if kept[1] == run then
    return kept[2], kept[3] == '1', kept[4] == '1'
  end
  local empty = not kept[1]
  local microseconds = seconds * 1000000 + tonumber(time[2])
  local epoch = digits[empty and microseconds or math.max(tonumber(kept[2]) + 1, microseconds)]
  call('HSET', state_name, 'run', run, 'epoch', epoch, 'open', '0', 'empty', empty and '1' or '0', 'began', digits[now])
  return epoch, false, empty
end

-- An error for a charge that may not be made, else nothing.
local function refusal(wanted)
  local epoch, open = enter()
  if epoch ~= wanted then
    return redis.error_reply('LEASE_EPOCH ' .. epoch)
  end
  if not open then
    return redis.error_reply('LEASE_LEARNING ' .. epoch)
  end
end
