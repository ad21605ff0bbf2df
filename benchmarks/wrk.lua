-- What wrk runs for each of its threads: every request is a new order, until a deadline; then no more are sent, so that
-- wrk ends with every order answered, and with one thread as soon as it is. Arguments: a prefix for the order ids, seconds, orders a second (0: as many as
-- there can be), and an address for each thread.

local ffi = require("ffi")
ffi.cdef([[
   struct timespec { long sec; long nsec; };
   int clock_gettime(int clock, struct timespec *time);
   int getpid(void);
   int kill(int pid, int signal);
]])
local clock = ffi.new("struct timespec")
local NEVER = 3600 * 1000
local SIGINT = 2
local threads = {}

local function now()
   ffi.C.clock_gettime(0, clock)
   return tonumber(clock.sec) + tonumber(clock.nsec) / 1e9
end

function setup(thread)
   table.insert(threads, thread)
   thread:set("number", #threads)
end

function init(args)
   prefix = "/orders/create?order_id=" .. args[1] .. "-" .. number .. "-"
   started, last, next_at = now(), now(), now()
   ends_at = started + tonumber(args[2])
   share = tonumber(args[3]) / (#args - 3)
   is_alone = #args == 4
   local host, port = args[3 + number]:match("^(.+):(%d+)$")
   wrk.thread.addr = wrk.lookup(host, port)[1]
   made, sent, received, answered = 0, 0, 0, 0
end

-- How many milliseconds to wait before an order is sent. wrk asks once for each, and takes no part of it for latency.
function delay()
   local at = now()
   local wait = 0
   if share > 0 then
      next_at = math.max(at, next_at + 1 / share)
      wait = next_at - at
   end
   if at + wait >= ends_at then
      if is_alone and received == sent then ffi.C.kill(ffi.C.getpid(), SIGINT) end
      return NEVER
   end
   sent = sent + 1
   return math.floor(wait * 1000 + 0.5)
end

function request()
   made = made + 1
   return wrk.format("POST", prefix .. made)
end

function response(status)
   last = now()
   received = received + 1
   if status == 200 then answered = answered + 1 end
end

function done(summary, latency)
   local total = { sent = 0, answered = 0, started = math.huge, last = 0 }
   for _, thread in ipairs(threads) do
      total.sent = total.sent + thread:get("sent")
      total.answered = total.answered + thread:get("answered")
      total.started = math.min(total.started, thread:get("started"))
      total.last = math.max(total.last, thread:get("last"))
   end
   io.stderr:write(string.format('{"sent": %d, "answered": %d, "seconds": %f, "p50": %f, "p99": %f}\n',
      total.sent, total.answered, total.last - total.started,
      latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
