"""Requests at a fixed rate: half of what Tombolo can do just now. A time counts from when the request was due."""

import functools

from .. import load, peers
from ..lab import HOST, HTTP
from ..scenario import CPU, OURS, PEAK, Scenario
from .http import EVERYONE, plain

CONNECTIONS = 64


def starters(at):
    """All of them; ours tells the rate."""
    at.origin()
    made = {name: functools.partial(peers.ALL[name].start, at, plain(at)) for name in EVERYONE if at.tools.has(name)}

    def ours():
        contender = peers.ALL[OURS].start(at, plain(at))
        answers = load.wrk(at, contender.url())
        at.rate = round(answers.requests / answers.seconds / 2)
        return contender
    return {**made, OURS: ours}


def measure(at, contender):
    """One round of one."""
    [before] = contender.cpu()
    said = load.client(at, "open-loop", at=f"{contender.address}:{HTTP}", host=HOST, path="/1k", rate=at.rate,
                       seconds=at.seconds, connections=CONNECTIONS)
    [after] = contender.cpu()
    contender.check()
    return {"p99 ms": said["p99"] / 1000, "p50 ms": said["p50"] / 1000, "max ms": said["max"] / 1000,
            CPU: (after - before) / 1000 / said["requests"], "asked/s": at.rate, PEAK: contender.peak() / 1e6}


ALL = [Scenario("latency", "HTTP/1.1 keep-alive, 1 KB, at half of Tombolo's capacity", starters, measure, ("wrk",), EVERYONE)]
