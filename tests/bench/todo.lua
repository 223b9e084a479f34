-- Requests for the to-do system: wrk -s todo.lua URL -- MIX SEED
-- MIX is `mix` (four reads to one write), `reads` or `writes`. Each request picks one of 1,000
-- lists and one of 31 days at random.

local writes_in_five = { mix = 1, reads = 0, writes = 5 }
local writes
local count = 0

function init(args)
  writes = writes_in_five[args[1]] or error("todo.lua: the mix is mix, reads or writes")
  math.randomseed(tonumber(args[2]) or 1)
end

function request()
  count = count + 1
  local query = string.format("list=list%d&date=2018-12-%02d", math.random(1000), math.random(31))
  if count % 5 < writes then
    return wrk.format("POST", "/add_entry?" .. query .. "&title=Dentist")
  end
  return wrk.format("GET", "/entries?" .. query)
end
