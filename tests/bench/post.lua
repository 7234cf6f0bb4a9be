-- One kind of POST for wrk; its body is the file named by the first argument. Reports one line of JSON, times in microseconds.

function init(arguments)
   local file = assert(io.open(arguments[1], "rb"))
   wrk.method = "POST"
   wrk.body = file:read("*a")
   file:close()
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests":%d,"duration_us":%d,"median_us":%d,"p99_us":%d,"not_connected":%d,"broken":%d,"refused":%d,"late":%d}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
      errors.connect, errors.read + errors.write, errors.status, errors.timeout
   ))
end
