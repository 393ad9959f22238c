-- What all algorithms share. ARGV[1] stands before every key, ARGV[2] is the batch that charge.lua reads.
--
-- An algorithm is two functions. charge(bucket, field, hits, window, per_window, limit) adds hits and returns the count and the
-- seconds until the counter is empty; undo, with the same arguments, takes back what charge has just added. A counter's key
-- is cut in two: bucket is also the hash tag, so all of a bucket lies on one node of a cluster. `v2` in the names is the
-- version of this layout: change it with the meaning of anything that is stored.
local CEILING = 4503599627370496 -- 2^52: doubles still count exactly here, and no limit is anywhere near

local call = redis.call
local prefix = ARGV[1] .. '{'
local time = call('TIME')
local seconds = tonumber(time[1])
local now = seconds * 1000 + math.floor(tonumber(time[2]) / 1000)

-- Whole numbers as text; Redis' own conversion costs more than looking it up.
local digits = setmetatable({}, {
  __index = function(known, number)
    local text = string.format('%.0f', number)
    known[number] = text
    return text
  end,
})

local function seconds_left(milliseconds)
  return math.max(1, math.ceil(milliseconds / 1000))
end
