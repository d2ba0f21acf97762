"""nginx: one worker; it has no active health checks; its log is buffered, as its guide advises."""

from .. import certs, lab
from ..work import Contender


def start(at, work):
    """Starts it for the work."""
    address, folder = at.at(0, 31), at.folder / "nginx"
    config = at.file("nginx/nginx.conf", configuration(at, work, address))
    process = at.start("nginx", [at.tools["nginx"], "-p", folder, "-e", "stderr", "-c", config])
    process.until(lambda: lab.listens(address, lab.HTTP))
    return Contender("nginx", address, [process])


def configuration(at, work, address):
    """One server with both doors."""
    folder, (chain, key) = at.folder / "nginx", certs.public(at)
    log = f"{folder}/access.log combined buffer=64k flush=1s" if work.features else "off"
    passed = "grpc_pass grpc" if work.protocol == "grpc" else "proxy_pass http"
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
    location / {{
      {passed}://origin;
{headers(work)}\
    }}
  }}
}}
"""


def headers(work):
    """What is said to the origin about the request."""
    lines = ['proxy_set_header Connection ""', "proxy_http_version 1.1"] if work.protocol == "http" else []
    if work.features:
        kind = "grpc" if work.protocol == "grpc" else "proxy"
        lines += [f"{kind}_set_header {name}" for name in NAMES]
    return "".join(f"      {line};\n" for line in lines)


NAMES = ("Host $host", "X-Forwarded-For $proxy_add_x_forwarded_for", "X-Forwarded-Proto $scheme",
         "X-Request-Id $request_id")
