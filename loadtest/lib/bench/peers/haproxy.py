"""HAProxy: one thread; the log through its standard output, which is a file."""

from .. import certs, lab
from ..work import Contender


def start(at, work, name="haproxy"):
    """Starts it for the work."""
    address = at.address()
    secure = f"{address}:{lab.HTTPS} ssl crt {certs.pair(at)} alpn h2,http/1.1"
    public = frontend(work, f"{address}:{lab.HTTP}", secure) + routes(at, work, name)
    return Contender(name, address, [run(at, name, work, address, public + origin(work))])


def stream(at, backend):
    """Starts it for bytes."""
    address, (host, port) = at.address(), backend
    config = STREAM + f"listen bytes\n  bind {address}:{lab.TCP}\n  server s0 {host}:{port}\n"
    path = at.file(at.path("haproxy") / "haproxy.cfg", config)
    process = at.start("haproxy", [at.tools["haproxy"], "-db", "-f", path])
    process.until(lambda: lab.listens(address, lab.TCP))
    return Contender("haproxy", address, [process])


def pair(at, work, protocol):
    """Two, with a tunnel that speaks this protocol."""
    name, near, far, ca = f"haproxy {protocol}", at.address(), at.address(), certs.authority(at)[0]
    tls = f"ssl crt {{}} ca-file {ca} verify required alpn {protocol}"
    door = f"{far}:{lab.EAST_WEST} {tls.format(certs.pair(at, 'far'))}"
    server = f"{far}:{lab.EAST_WEST} {tls.format(certs.pair(at, 'near'))} sni str({certs.name('far')})"
    checked = f"{server} check-sni {certs.name('far')} check-alpn {protocol}"
    tunnel = frontend(work, f"{far}:{lab.HTTP}", door, named=False)
    second = run(at, f"{name}, far", work, far, tunnel + origin(work))
    first = run(at, f"{name}, near", work, near, frontend(work, f"{near}:{lab.HTTP}") + backend(work, [checked]))
    return Contender(name, near, [first, second])


def run(at, name, work, address, rest):
    """Starts one with these front and back ends."""
    log = "  log global\n  option httplog\n" if work.features else ""
    config = at.file(at.path(name) / "haproxy.cfg", GLOBAL + DEFAULTS + log + rest)
    process = at.start(name, [at.tools["haproxy"], "-db", "-f", config])
    process.until(lambda: lab.listens(address, lab.HTTP))
    return process


def frontend(work, *doors, named=True):
    """Where clients come; unless another did it before, it names the request and says for whom it is forwarded."""
    binds = "".join(f"  bind {door}\n" for door in doors)
    return f"frontend public\n{binds}{NAMES if named and work.features else ''}  default_backend origin\n"


def routes(at, work, name):
    """Path prefixes in a map, which HAProxy searches as a tree."""
    if not work.routes:
        return ""
    entries = at.file(at.path(name) / "routes.map", "".join(f"{prefix}/ origin\n" for prefix in work.routes))
    return f"  use_backend %[path,map_beg({entries},origin)]\n"


def origin(work):
    """The origin's endpoints."""
    protocol = " proto h2 check-proto h2" if work.protocol == "grpc" else ""
    return backend(work, [f"{host}:{port}{protocol}" for host, port in work.backends])


def backend(work, servers):
    """Servers, and their checks."""
    checks = f"  option httpchk GET /\n  default-server check inter {work.interval}s\n" if work.features else ""
    listed = "".join(f"  server s{number} {server}\n" for number, server in enumerate(servers))
    return f"backend origin\n  http-reuse always\n{checks}{listed}"


GLOBAL = """\
global
  nbthread 1
  log stdout format raw local0
"""

DEFAULTS = """\
defaults
  mode http
  timeout connect 5s
  timeout client 75s
  timeout server 60s
  timeout http-request 10s
  timeout http-keep-alive 75s
"""

STREAM = """\
global
  nbthread 1
defaults
  mode tcp
  option splice-auto
  timeout connect 5s
  timeout client 75s
  timeout server 75s
"""

NAMES = """\
  option forwardfor
  unique-id-format %[uuid()]
  unique-id-header x-request-id
  http-request set-header x-forwarded-proto %[ssl_fc,iif(https,http)]
"""
