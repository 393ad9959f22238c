-- What plain and other requests share: the batch, and the numbers of the reply.
local unpack_bytes = struct.unpack
local batch = ARGV[2]
local reply, replied = {}, 0
