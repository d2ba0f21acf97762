"""HAProxy: one thread; the log through its standard output, which is a file."""

from .. import certs, lab
from ..work import Contender


def start(at, work):
    """Starts it for the work."""
    address = at.at(0, 21)
    config = at.file("haproxy/haproxy.cfg", configuration(at, work, address))
    process = at.start("haproxy", [at.tools["haproxy"], "-db", "-f", config])
    process.until(lambda: lab.listens(address, lab.HTTP))
    return Contender("haproxy", address, [process])


def configuration(at, work, address):
    """One front end with both doors, one back end a route."""
    parts = [
        "global\n  nbthread 1\n  log stdout format raw local0\n  tune.ssl.default-dh-param 2048\n",
        DEFAULTS,
        "  log global\n  option httplog\n" if work.features else "",
        f"frontend public\n  bind {address}:{lab.HTTP}\n",
        f"  bind {address}:{lab.HTTPS} ssl crt {certs.pair(at)} alpn h2,http/1.1\n",
        NAMES if work.features else "",
        "  default_backend origin\n",
        "backend origin\n  http-reuse always\n",
        f"  option httpchk GET /\n  default-server check inter {work.interval}s\n" if work.features else "",
        *(server(work, number, *backend) for number, backend in enumerate(work.backends)),
    ]
    return "".join(parts)


DEFAULTS = """\
defaults
  mode http
  timeout connect 5s
  timeout client 75s
  timeout server 60s
  timeout http-request 10s
"""

NAMES = """\
  option forwardfor
  unique-id-format %[uuid()]
  unique-id-header x-request-id
  http-request set-header x-forwarded-proto %[ssl_fc,iif(https,http)]
"""


def server(work, number, address, port):
    """One endpoint."""
    protocol = " proto h2 check-proto h2" if work.protocol == "grpc" else ""
    return f"  server s{number} {address}:{port}{protocol}\n"
