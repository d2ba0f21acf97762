"""All scenarios, in the order of the tables."""

from . import changes, dns, http, latency, rest, scale, tcp, tls, tunnel

ALL = [*http.ALL, *latency.ALL, *tls.ALL, *tunnel.ALL, *tcp.ALL, *scale.ALL, *rest.ALL, *changes.ALL, *dns.ALL]
