"""One proxy, one origin: HTTP/1.1 with small and large bodies, HTTPS, gRPC; and what of the cost the features are."""

import functools

from .. import load, peers
from ..scenario import Scenario, closed_loop, proxying
from ..work import Work

CONFIGURABLE = ("tombolo", "haproxy", "nginx", "envoy", "caddy")
EVERYONE = ("tombolo", "haproxy", "nginx", "bare", "envoy", "caddy")


def plain(at):
    """HTTP to HTTP."""
    return Work([at.origin_http])


def secure(at):
    """HTTPS to HTTP."""
    return Work([at.origin_http], tls=True)


def grpc(at):
    """HTTPS to HTTP/2 without TLS."""
    return Work([at.origin_http2], protocol="grpc", tls=True)


def with_and_without(at):
    """Each twice: with the features, and without."""
    at.origin()
    starters = {}
    for name in CONFIGURABLE:
        if at.tools.has(name):
            start, off = peers.ALL[name].start, f"{name}, off"
            starters[name] = functools.partial(start, at, plain(at))
            starters[off] = functools.partial(start, at, Work([at.origin_http], features=False), off)
    return starters


def wrk(path="/1k"):
    """HTTP/1.1 as fast as it goes."""
    return closed_loop(lambda at, it: load.wrk(at, it.url(path)))


ALL = [
    proxying("http1", "HTTP/1.1 keep-alive, 1 KB", wrk(), plain, EVERYONE, ("wrk",)),
    proxying("body-64k", "HTTP/1.1 keep-alive, 64 KB", wrk("/64k"), plain, EVERYONE, ("wrk",)),
    proxying("body-1m", "HTTP/1.1 keep-alive, 1 MB", wrk("/1m"), plain, EVERYONE, ("wrk",)),
    proxying("https1", "HTTPS, HTTP/1.1, 1 KB",
             closed_loop(lambda at, it: load.h2load(at, it.address, protocol="http/1.1")),
             secure, EVERYONE, ("h2load", "openssl")),
    proxying("https2", "HTTPS, HTTP/2, 1 KB", closed_loop(lambda at, it: load.h2load(at, it.address)),
             secure, EVERYONE, ("h2load", "openssl")),
    proxying("grpc", "gRPC calls of 100 bytes over HTTPS", closed_loop(lambda at, it: load.grpc(at, it.address)),
             grpc, EVERYONE, ("h2load", "openssl")),
    Scenario("features", "HTTP/1.1 keep-alive, 1 KB, without access log, health checks, forwarding headers",
             with_and_without, wrk(), ("wrk",), CONFIGURABLE),
]
