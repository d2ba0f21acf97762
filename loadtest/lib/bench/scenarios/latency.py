"""Requests at a fixed rate. A proxy that is not busy wakes for each, which costs more than one after another does; and
how long one takes says something only below capacity."""

from .. import load
from ..scenario import OURS, P99, Scenario, closed_loop, every, open_loop, proxying
from . import tunnel
from .http import EVERYONE, plain, secure

# Requests a second that every proxy can do on a small part of a core.
STEADY, STEADY_TUNNEL = 4_000, 2_000


def starters(at):
    """All of them; ours tells the rate: half of what it can do just now."""
    at.origin()
    made = every(EVERYONE, at, plain(at))
    start = made[OURS]

    def ours():
        contender = start()
        answers = load.wrk(at, contender.url())
        at.kept["rate"] = round(answers.requests / answers.seconds / 2)
        return contender
    return {**made, OURS: ours}


ALL = [
    Scenario("latency", "HTTP/1.1 keep-alive, 1 KB, at half of Tombolo's capacity", starters,
             open_loop(lambda at: at.kept["rate"], first=P99), ("wrk",), EVERYONE),
    proxying("steady", f"HTTP/1.1 keep-alive, 1 KB, {STEADY:,} requests/s", open_loop(lambda at: STEADY), plain, EVERYONE,
             ()),
    proxying("steady-https2", f"HTTPS, HTTP/2, 1 KB, {STEADY:,} requests/s", closed_loop(
        lambda at, it: load.h2load(at, it.address, more=(f"--rps={STEADY // load.H2_CLIENTS}",))), secure, EVERYONE,
        ("h2load", "openssl")),
    Scenario("steady-tunnel", f"two gateways and an mTLS tunnel, {STEADY_TUNNEL:,} requests/s", tunnel.starters,
             open_loop(lambda at: STEADY_TUNNEL), ("openssl",), ("haproxy", "envoy")),
]
