"""The proxies, one file each: a configuration for the work, and the process. Each gets what its own guides advise."""

from . import bare, caddy, envoy, haproxy, nginx, tombolo

# In the order of the tables.
ALL = {"tombolo": tombolo, "haproxy": haproxy, "nginx": nginx, "bare": bare, "envoy": envoy, "caddy": caddy}
