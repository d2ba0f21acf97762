"""One proxy, one origin: HTTP/1.1, HTTPS."""

from .. import load
from ..scenario import closed_loop, proxying
from ..work import Work

EVERYONE = ("tombolo", "haproxy", "nginx", "bare", "envoy", "caddy")


def plain(at):
    """HTTP to HTTP."""
    return Work([at.origin_http])


def secure(at):
    """HTTPS to HTTP."""
    return Work([at.origin_http], tls=True)


ALL = [
    proxying("http1", "HTTP/1.1 keep-alive, 1 KB", closed_loop(lambda at, it: load.wrk(at, it.url())),
             plain, EVERYONE, ("wrk",)),
    proxying("https1", "HTTPS, HTTP/1.1, 1 KB",
             closed_loop(lambda at, it: load.h2load(at, it.address, protocol="http/1.1")),
             secure, EVERYONE, ("h2load", "openssl")),
    proxying("https2", "HTTPS, HTTP/2, 1 KB", closed_loop(lambda at, it: load.h2load(at, it.address)),
             secure, EVERYONE, ("h2load", "openssl")),
]
