"""nginx: one worker; it has no active health checks; its log is buffered, as its guide advises."""

import pathlib

from .. import certs, lab
from ..process import Failed
from ..work import Contender

# Debian's is a package of its own.
STREAM_MODULE = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def start(at, work, name="nginx"):
    """Starts it for the work."""
    address, folder = at.address(), at.path(name)
    config = at.file(folder / "nginx.conf", configuration(at, work, address, folder))
    process = at.start(name, [at.tools["nginx"], "-p", folder, "-e", "stderr", "-c", config])
    process.until(lambda: lab.listens(address, lab.HTTP))
    return Contender(name, address, [process])


def configuration(at, work, address, folder):
    """One server with both doors."""
    chain, key = certs.leaf(at)
    log = f"{folder}/access.log combined buffer=64k flush=1s" if work.features else "off"
    passed = ("grpc_pass grpc" if work.protocol == "grpc" else "proxy_pass http") + "://origin;"
    routes = "".join(f"    location {prefix}/ {{ {passed} }}\n" for prefix in work.routes)
    servers = "".join(f"    server {host}:{port};\n" for host, port in work.backends)
    temporary = "".join(f"  {kind}_temp_path {folder}/{kind};\n"
                        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return f"""\
worker_processes 1;
worker_rlimit_nofile 65536;
daemon off;
user root;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 25000; }}
http {{
{temporary}\
  access_log {log};
  keepalive_requests 1000000000;
  upstream origin {{
    keepalive 256;
    keepalive_requests 1000000000;
{servers}\
  }}
  server {{
    listen {address}:{lab.HTTP};
    listen {address}:{lab.HTTPS} ssl http2;
    server_name {lab.HOST};
    ssl_certificate {chain};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tls:10m;
{headers(work)}\
{routes}\
    location / {{ {passed} }}
  }}
}}
"""


def stream(at, backend):
    """Starts it for bytes."""
    address, folder, (host, port) = at.address(), at.path("nginx"), backend
    if not STREAM_MODULE.exists():
        raise Failed(f"{STREAM_MODULE} is not there: apt-get install libnginx-mod-stream")
    config = f"""\
load_module {STREAM_MODULE};
worker_processes 1;
daemon off;
user root;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1000; }}
stream {{
  server {{
    listen {address}:{lab.TCP};
    proxy_pass {host}:{port};
  }}
}}
"""
    path = at.file(folder / "nginx.conf", config)
    process = at.start("nginx", [at.tools["nginx"], "-p", folder, "-e", "stderr", "-c", path])
    process.until(lambda: lab.listens(address, lab.TCP))
    return Contender("nginx", address, [process])


def headers(work):
    """What is said to the origin about the request."""
    lines = ['proxy_set_header Connection ""', "proxy_http_version 1.1"] if work.protocol == "http" else []
    if work.features:
        kind = "grpc" if work.protocol == "grpc" else "proxy"
        lines += [f"{kind}_set_header {name}" for name in NAMES]
    return "".join(f"    {line};\n" for line in lines)


NAMES = ("Host $host", "X-Forwarded-For $proxy_add_x_forwarded_for", "X-Forwarded-Proto $scheme",
         "X-Request-Id $request_id")
