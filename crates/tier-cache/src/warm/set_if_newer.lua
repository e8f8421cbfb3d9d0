-- Sets KEYS[1] to the record ARGV[1] for ARGV[2] ms, unless a newer record is there; and publishes
-- ARGV[4] on ARGV[3], if given, in any case. A record that reads as none of ours, or of another lineage, is not newer.
-- Numbers are compared in halves, since Lua's are doubles, and not as strings, since that
-- depends on the server's locale.
local there = redis.pcall('GETRANGE', KEYS[1], 0, 17)
local newer = false
if type(there) == 'string' and #there == 18 and there:byte(1) == ARGV[1]:byte(1) then
  local a = { struct.unpack('>I4I4I4I4', there, 3) }
  local b = { struct.unpack('>I4I4I4I4', ARGV[1], 3) }
  for i = 1, 4 do
    if a[i] ~= b[i] then
      newer = a[i] > b[i]
      break
    end
  end
end
local answer = redis.status_reply('OK')
if not newer then
  -- Not call: where there is no memory left, the change must still be published.
  answer = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
if ARGV[3] then
  redis.call('PUBLISH', ARGV[3], ARGV[4])
end
return answer
