"""Whether a request costs the same among many routes and many endpoints."""

import functools

from .. import lab, load, peers
from ..scenario import Scenario, closed_loop
from ..work import Work

ROUTES, ENDPOINTS = (1, 100, 5_000), (1, 100, 10_000)
# Of requests that differ; wrk's script sends them in turn.
DIFFERENT = 500
SCRIPT = """\
local requests, number = {{}}, 0
init = function()
  for each = 1, {different} do
    requests[each] = wrk.format("GET", "/r" .. (each * 7919) % {count} .. "/1k")
  end
end
request = function()
  number = number % {different} + 1
  return requests[number]
end
"""


def named(name, count, what):
    """A row of this proxy with so many."""
    return f"{name}, {count:,} {what}"


def of_itself(smallest):
    """What a row's ratio is made of: itself, and the same proxy with the fewest."""
    return lambda row: (row, f"{row.split(',')[0]}, {smallest}")


def many_routes(at):
    """Each proxy with few, some, and many path prefixes, all of which lead to one service."""
    at.origin()
    starters = {}
    for name in PROXIES_ROUTES:
        for count in ROUTES if at.tools.has(name) else ():
            work = Work([at.origin_http], routes=tuple(f"/r{number}" for number in range(count)))
            row = named(name, count, "routes")
            at.kept[row] = at.file(at.path(row) / "requests.lua", SCRIPT.format(different=DIFFERENT, count=count))
            starters[row] = functools.partial(peers.ALL[name].start, at, work, row)
    return starters


def many_endpoints(at):
    """Each with few, some, and many addresses of one service, checked once a minute; all are one origin's, which each row
    has for itself, as its connections are many."""
    starters = {}
    for name in PROXIES_ENDPOINTS:
        for count in ENDPOINTS if at.tools.has(name) else ():
            row, port = named(name, count, "endpoints"), lab.ORIGIN_MANY + len(starters)
            at.origin_everywhere(port)
            backends = [(f"127.{at.net + 1}.{number // 250}.{number % 250 + 1}", port) for number in range(count)]
            work = Work(backends, interval=60)
            starters[row] = functools.partial(peers.ALL[name].start, at, work, row)
    return starters


PROXIES_ROUTES = ("tombolo", "haproxy", "nginx", "envoy")
PROXIES_ENDPOINTS = ("tombolo", "haproxy")

ALL = [
    Scenario("routes", "HTTP/1.1 keep-alive, 1 KB, among many path prefixes", many_routes,
             closed_loop(lambda at, it: load.wrk(at, it.url(), at.kept[it.name])), ("wrk",), PROXIES_ROUTES,
             ratio="× of 1", ratio_of=of_itself("1 routes")),
    Scenario("endpoints", "HTTP/1.1 keep-alive, 1 KB, to many endpoints", many_endpoints,
             closed_loop(lambda at, it: load.wrk(at, it.url())), ("wrk",), PROXIES_ENDPOINTS,
             ratio="× of 1", ratio_of=of_itself("1 endpoints")),
]
