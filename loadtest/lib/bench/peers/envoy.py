"""Envoy: one worker (`--concurrency 1`)."""

import json

from .. import certs, lab
from ..work import Contender, Work

TYPE = "type.googleapis.com/envoy.extensions"


def start(at, work, name="envoy"):
    """Starts it for the work."""
    address = at.address()
    manager = connection_manager(at, work, name)
    secure = listener("https", address, lab.HTTPS, manager, server_tls(certs.leaf(at), ["h2", "http/1.1"]))
    return Contender(name, address, [
        run(at, name, address, [listener("http", address, lab.HTTP, manager), secure], cluster(work, work.backends))])


def pair(at, work):
    """Two, with a tunnel over HTTP/2."""
    near, far, ca = at.address(), at.address(), certs.authority(at)[0]
    manager = connection_manager(at, work, "envoy-far", first=False)
    door = listener("tunnel", far, lab.EAST_WEST, manager, server_tls(certs.leaf(at, "far"), ["h2"], ca))
    plain = listener("http", far, lab.HTTP, manager)
    second = run(at, "envoy-far", far, [plain, door], cluster(work, work.backends))
    tunnel = cluster(work, [(far, lab.EAST_WEST)], http2=True) | {
        "transport_socket": client_tls(certs.leaf(at, "near"), certs.name("far"), ca)}
    public = listener("http", near, lab.HTTP, connection_manager(at, work, "envoy-near"))
    return Contender("envoy h2", near, [run(at, "envoy-near", near, [public], tunnel), second])


def stream(at, backend):
    """Starts it for bytes."""
    address, work = at.address(), Work([backend], features=False)
    proxy = typed("filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="bytes", cluster="origin")
    door = listener("bytes", address, lab.TCP, {"name": "bytes", "typed_config": proxy})
    process = run(at, "envoy", address, [door], cluster(work, work.backends), lab.TCP)
    return Contender("envoy", address, [process])


def run(at, name, address, listeners, cluster, port=lab.HTTP):
    """Starts one that forwards everything to that cluster."""
    config = {"static_resources": {"listeners": listeners, "clusters": [cluster]}}
    path = at.file(at.path(name) / "envoy.json", json.dumps(config, indent=1))
    process = at.start(name, [at.tools["envoy"], "-c", path, "--concurrency", "1", "--disable-hot-restart",
                              "-l", "warn"])
    process.until(lambda: lab.listens(address, port))
    return process


def listener(name, address, port, manager, tls=None):
    """A door."""
    chain = {"filters": [manager], **({"transport_socket": tls} if tls else {})}
    return {"name": name, "address": socket(address, port), "filter_chains": [chain]}


def socket(address, port):
    """Where something listens."""
    return {"socket_address": {"address": address, "port_value": port}}


def typed(name, **fields):
    """A message that says what it is."""
    return {"@type": f"{TYPE}.{name}", **fields}


def connection_manager(at, work, name, first=True):
    """HTTP, as its guide to the edge has it; the first in a row names the request."""
    log = typed("access_loggers.file.v3.FileAccessLog", path=str(at.path(name) / "access.log"))
    route = {"cluster": "origin", "timeout": "0s"}
    routes = [{"match": {"path_separated_prefix": prefix}, "route": route} for prefix in work.routes]
    routes.append({"match": {"prefix": "/"}, "route": route})
    fields = {
        "stat_prefix": "public",
        "use_remote_address": first,
        "generate_request_id": work.features and first,
        "normalize_path": True,
        "merge_slashes": True,
        "http_filters": [{"name": "router", "typed_config": typed("filters.http.router.v3.Router")}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "access_log": [{"name": "file", "typed_config": log}] if work.features else [],
    }
    manager = "filters.network.http_connection_manager.v3.HttpConnectionManager"
    return {"name": "http", "typed_config": typed(manager, **fields)}


def server_tls(pair, alpn, authority=None):
    """A listener's side; with an authority clients need a certificate of it."""
    common = {"tls_certificates": [certificate(pair)], "alpn_protocols": alpn}
    if authority:
        common["validation_context"] = {"trusted_ca": {"filename": str(authority)}}
    return {"name": "tls", "typed_config": typed(
        "transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context=common,
        require_client_certificate=bool(authority))}


def client_tls(pair, name, authority):
    """A dialler's side: its certificate, and whom it expects."""
    names = [{"san_type": "DNS", "matcher": {"exact": name}}]
    trust = {"trusted_ca": {"filename": str(authority)}, "match_typed_subject_alt_names": names}
    common = {"tls_certificates": [certificate(pair)], "alpn_protocols": ["h2"], "validation_context": trust}
    return {"name": "tls", "typed_config": typed("transport_sockets.tls.v3.UpstreamTlsContext", sni=name,
                                                 common_tls_context=common)}


def certificate(pair):
    """A chain and its key."""
    chain, key = pair
    return {"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}}


def cluster(work, backends, http2=False):
    """The endpoints."""
    endpoints = [{"endpoint": {"address": socket(*backend)}} for backend in backends]
    http2 = http2 or work.protocol == "grpc"
    made = {"name": "origin", "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": endpoints}]}}
    if http2:
        made["typed_extension_protocol_options"] = http2_options()
    if work.features:
        made["health_checks"] = [{
            "timeout": "0.5s", "interval": f"{work.interval}s", "unhealthy_threshold": 2, "healthy_threshold": 2,
            "http_health_check": {"path": "/", "codec_client_type": "HTTP2" if http2 else "HTTP1"}}]
    return made


def http2_options():
    """HTTP/2 to the endpoints."""
    options = {"@type": f"{TYPE}.upstreams.http.v3.HttpProtocolOptions",
               "explicit_http_config": {"http2_protocol_options": {}}}
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
