-- Each request bears one of the cookies in the file that PEERS_COOKIES names.

local requests = {}

init = function()
  for line in io.lines(os.getenv("PEERS_COOKIES")) do
    requests[#requests + 1] = wrk.format(nil, nil, { Cookie = line })
  end
  math.randomseed(1)
end

request = function()
  return requests[math.random(#requests)]
end

done = function(summary, latency)
  local e = summary.errors
  local errors = e.connect + e.read + e.write + e.status + e.timeout
  print(string.format("peers %d %d %d %d",
    summary.requests, summary.duration, latency:percentile(99), errors))
end
