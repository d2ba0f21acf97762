"""Two gateways with mutual TLS between them: the client speaks plain HTTP/1.1 to the first, the origin is behind the
second. The CPU of both counts."""

import functools

from .. import load
from ..peers import bare, envoy, haproxy, tombolo
from ..scenario import Scenario, closed_loop
from ..work import Work

# Row → who must be installed, and what starts both.
PAIRS = {
    "tombolo": ("tombolo", tombolo.pair),
    "haproxy h2": ("haproxy", lambda at, work: haproxy.pair(at, work, "h2")),
    "haproxy http/1.1": ("haproxy", lambda at, work: haproxy.pair(at, work, "http/1.1")),
    "bare h2": ("bare", bare.pair),
    "envoy h2": ("envoy", envoy.pair),
}


def starters(at):
    """All pairs."""
    at.origin()
    work = Work([at.origin_http])
    return {name: functools.partial(pair, at, work) for name, (tool, pair) in PAIRS.items() if at.tools.has(tool)}


ALL = [Scenario("tunnel", "two gateways and an mTLS tunnel, HTTP/1.1 keep-alive, 1 KB", starters,
                closed_loop(lambda at, it: load.wrk(at, it.url())), ("wrk", "openssl"), ("haproxy", "envoy"))]
