"""Requests at a fixed rate: half of what Tombolo can do just now. A time counts from when the request was due."""

from .. import load, peers
from ..lab import HOST, HTTP
from ..scenario import CPU, OURS, PEAK, Scenario
from .http import EVERYONE, plain

CONNECTIONS = 64


def start(at):
    """All of them, and the rate."""
    at.origin()
    contenders = peers.start([name for name in EVERYONE if at.tools.has(name)], at, plain(at))
    [ours] = [each for each in contenders if each.name == OURS]
    answers = load.wrk(at, ours.url())
    at.rate = round(answers.requests / answers.seconds / 2)
    return contenders


def measure(at, contender):
    """One round of one."""
    [before] = contender.cpu()
    said = load.client(at, "open-loop", at=f"{contender.address}:{HTTP}", host=HOST, path="/1k", rate=at.rate,
                       seconds=at.seconds, connections=CONNECTIONS)
    [after] = contender.cpu()
    contender.check()
    return {"p99 ms": said["p99"] / 1000, "p50 ms": said["p50"] / 1000, "max ms": said["max"] / 1000,
            CPU: (after - before) / 1000 / said["requests"], "asked/s": at.rate, PEAK: contender.peak() / 1e6}


ALL = [Scenario("latency", "HTTP/1.1 keep-alive, 1 KB, at half of Tombolo's capacity", start, measure, ("wrk",), EVERYONE)]
