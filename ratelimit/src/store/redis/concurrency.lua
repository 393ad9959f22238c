-- Slots that are held until they are given back, or have been held for a whole window.
local concurrency = by_age('c')
