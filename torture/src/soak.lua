-- Arguments: the file of client ids, the file to write the report to, how many threads there are.
-- Each thread has its share of the sessions, and counts per session the writes that were answered.

local threads = {}

function setup(thread)
   thread:set("place", #threads)
   table.insert(threads, thread)
end

function init(args)
   report_path = args[2]
   local count = tonumber(args[3])
   cookies, acknowledged, refused = {}, {}, {}
   local line = 0
   for id in io.lines(args[1]) do
      if line % count == place then
         table.insert(cookies, { Cookie = "soak=" .. id })
      end
      line = line + 1
   end
   math.randomseed(place + 1)
end

function request()
   local chance = math.random(100)
   if chance <= 5 then
      return wrk.format("GET", "/visit", {})
   end
   local cookie = cookies[math.random(#cookies)]
   if chance <= 20 then
      return wrk.format("POST", "/write", cookie)
   end
   return wrk.format("GET", "/read", cookie)
end

-- A pause of so many milliseconds between two requests of a connection keeps the rate steady.
function delay()
   return math.random(5, 15)
end

function response(status, headers, body)
   if status < 200 or status > 399 then
      local key = tostring(status)
      refused[key] = (refused[key] or 0) + 1
      return
   end
   local session = body:match("^written (%d+) %d+$")
   if session then
      acknowledged[session] = (acknowledged[session] or 0) + 1
   end
end

function done(summary, latency, requests)
   local out = io.open(threads[1]:get("report_path"), "w")
   local e = summary.errors
   out:write("requests ", summary.requests, "\n")
   out:write("sockets ", e.connect + e.read + e.write + e.timeout, "\n")
   out:write("p99 ", math.floor(latency:percentile(99.0)), "\n")
   for _, thread in ipairs(threads) do
      for status, times in pairs(thread:get("refused")) do
         out:write("refused ", status, " ", times, "\n")
      end
      for session, times in pairs(thread:get("acknowledged")) do
         out:write("acknowledged ", session, " ", times, "\n")
      end
   end
   out:close()
end
