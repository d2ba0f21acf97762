"""Envoy: one worker (`--concurrency 1`)."""

import json

from .. import certs, lab
from ..work import Contender

TYPE = "type.googleapis.com/envoy.extensions"


def start(at, work):
    """Starts it for the work."""
    address = at.at(0, 41)
    return Contender("envoy", address, [run(at, "envoy", configuration(at, work, address), address)])


def run(at, name, config, address):
    """Starts one with that configuration."""
    path = at.file(f"{name}/envoy.json", json.dumps(config, indent=1))
    process = at.start(name, [at.tools["envoy"], "-c", path, "--concurrency", "1", "--disable-hot-restart", "-l", "warn"])
    process.until(lambda: lab.listens(address, lab.HTTP))
    return process


def configuration(at, work, address):
    """Both doors, with the same route."""
    manager = connection_manager(at, work, [{"match": {"prefix": "/"}, "route": {"cluster": "origin", "timeout": "0s"}}])
    plain = {"name": "http", "address": socket(address, lab.HTTP), "filter_chains": [{"filters": [manager]}]}
    chain = {"filters": [manager], "transport_socket": server_tls(certs.public(at), ["h2", "http/1.1"])}
    secure = {"name": "https", "address": socket(address, lab.HTTPS), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [plain, secure], "clusters": [cluster(work)]}}


def socket(address, port):
    """Where something listens."""
    return {"socket_address": {"address": address, "port_value": port}}


def typed(name, **fields):
    """A message that says what it is."""
    return {"@type": f"{TYPE}.{name}", **fields}


def connection_manager(at, work, routes, name="envoy"):
    """HTTP, as its guide to the edge has it."""
    log = typed("access_loggers.file.v3.FileAccessLog", path=str(at.folder / f"{name}-access.log"))
    router = {"name": "router", "typed_config": typed("filters.http.router.v3.Router")}
    features = {"generate_request_id": work.features, "access_log": []}
    if work.features:
        features["access_log"] = [{"name": "file", "typed_config": log}]
    return {"name": "http", "typed_config": typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="public", use_remote_address=True, normalize_path=True, merge_slashes=True, http_filters=[router],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}, **features)}


def server_tls(pair, alpn, authority=None):
    """A listener's side; with an authority clients need a certificate of it."""
    common = {"tls_certificates": [certificate(pair)], "alpn_protocols": alpn}
    if authority:
        common["validation_context"] = {"trusted_ca": {"filename": str(authority)}}
    return {"name": "tls", "typed_config": typed(
        "transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context=common,
        require_client_certificate=bool(authority))}


def certificate(pair):
    """A chain and its key."""
    chain, key = pair
    return {"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}}


def cluster(work, name="origin", http2=False):
    """The endpoints."""
    endpoints = [{"endpoint": {"address": socket(*backend)}} for backend in work.backends]
    made = {"name": name, "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}}
    if http2 or work.protocol == "grpc":
        made["typed_extension_protocol_options"] = http2_options()
    if work.features:
        made["health_checks"] = [{
            "timeout": "0.5s", "interval": f"{work.interval}s", "unhealthy_threshold": 2, "healthy_threshold": 2,
            "http_health_check": {"path": "/", **({"codec_client_type": "HTTP2"} if work.protocol == "grpc" else {})}}]
    return made


def http2_options():
    """HTTP/2 to the endpoints."""
    options = {"@type": f"{TYPE}.upstreams.http.v3.HttpProtocolOptions",
               "explicit_http_config": {"http2_protocol_options": {}}}
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
