-- ARGV[3] is the epoch in which the whole batch was made, or nothing from those that do not lease.
if ARGV[3] then
  local refused = refusal(ARGV[3])
  if refused then
    return refused
  end
end
