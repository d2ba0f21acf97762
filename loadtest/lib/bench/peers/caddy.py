"""Caddy: one processor for its goroutines."""

import json

from .. import certs, lab
from ..work import Contender


def start(at, work, name="caddy"):
    """Starts it for the work."""
    address, folder = at.address(), at.path(name)
    config = at.file(folder / "caddy.json", json.dumps(configuration(at, work, address, folder), indent=1))
    home = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder)) | {"GOMAXPROCS": "1"}
    process = at.start(name, [at.tools["caddy"], "run", "--config", config], env=home)
    process.until(lambda: lab.listens(address, lab.HTTP))
    return Contender(name, address, [process])


def configuration(at, work, address, folder):
    """One server a door, with the same route."""
    chain, key = certs.leaf(at)
    route = [{"handle": [proxy(work)]}]
    log = {"logs": {}} if work.features else {}
    plain = {"listen": [f"{address}:{lab.HTTP}"], "routes": route, "automatic_https": {"disable": True}, **log}
    secure = {**plain, "listen": [f"{address}:{lab.HTTPS}"], "protocols": ["h1", "h2"], "tls_connection_policies": [{}]}
    written = {"output": "file", "filename": str(folder / "access.log")}
    access = {"access": {"writer": written, "include": ["http.log.access"]}, "default": {"level": "WARN"}}
    return {
        "admin": {"disabled": True},
        "logging": {"logs": access},
        "apps": {
            "http": {"servers": {"plain": plain, "secure": secure}},
            "tls": {"certificates": {"load_files": [{"certificate": str(chain), "key": str(key)}]}},
        },
    }


def proxy(work):
    """Forwarding headers it sets by itself; the request's name it must be told."""
    versions = ["h2c", "2"] if work.protocol == "grpc" else ["1.1"]
    transport = {"protocol": "http", "versions": versions,
                 "keep_alive": {"enabled": True, "max_idle_conns_per_host": 256}}
    upstreams = [{"dial": f"{host}:{port}"} for host, port in work.backends]
    handler = {"handler": "reverse_proxy", "transport": transport, "upstreams": upstreams}
    if work.features:
        handler["headers"] = {"request": {"set": {"X-Request-Id": ["{http.request.uuid}"]}}}
        handler["health_checks"] = {"active": {"uri": "/", "interval": f"{work.interval}s", "timeout": "500ms"}}
    return handler
