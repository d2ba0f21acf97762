"""Bytes from the origin to the client, without TLS."""

import functools

from .. import load
from ..lab import TCP
from ..peers import envoy, haproxy, nginx, tombolo
from ..scenario import Scenario, PEAK

PROXIES = {"tombolo": tombolo, "haproxy": haproxy, "nginx": nginx, "envoy": envoy}


def starters(at):
    """All of them."""
    at.origin()
    return {name: functools.partial(proxy.stream, at, at.origin_stream) for name, proxy in PROXIES.items()
            if at.tools.has(name)}


def measure(at, contender):
    """One round of one, over four connections."""
    [before] = contender.cpu()
    said = load.client(at, "pump", at=f"{contender.address}:{TCP}", seconds=at.seconds, connections=4,
                       **{"from": at.workload})
    [after] = contender.cpu()
    contender.check()
    gigabytes = said["bytes"] / 1e9
    return {"CPU ms/GB": (after - before) / 1e6 / gigabytes, "GB/s": gigabytes / said["seconds"],
            PEAK: contender.peak() / 1e6}


ALL = [Scenario("tcp", "TCP, four connections, from the origin to the client", starters, measure, (), tuple(PROXIES))]
