-- ARGV[3] is the epoch in which the whole batch was made; those that do not lease have none.
local refused = refusal(ARGV[3])
if refused then
  return refused
end
