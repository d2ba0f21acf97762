"""A new TLS connection for each request."""

from .. import certs, load
from ..lab import HOST, HTTPS
from ..process import Failed
from ..scenario import closed_loop, proxying
from .http import EVERYONE, secure

CONNECTIONS = 16


def handshakes(resume):
    """Figures with sessions that go on, or without."""
    def call(at, contender):
        said = load.client(at, "handshakes", at=f"{contender.address}:{HTTPS}", host=HOST, ca=certs.authority(at)[0],
                           seconds=at.seconds, connections=CONNECTIONS, resume=str(resume).lower())
        share = said["resumed"] / said["requests"]
        if share < 0.9 if resume else share > 0:
            raise Failed(f"{share:.0%} of its connections resumed a session")
        return load.Answers(said["requests"], said["seconds"])
    return closed_loop(call)


ALL = [
    proxying("tls-new", "HTTPS, a new connection for each request", handshakes(False), secure, EVERYONE, ("openssl",)),
    proxying("tls-resumed", "HTTPS, a new connection for each request, resuming a session", handshakes(True), secure,
             EVERYONE, ("openssl",)),
]
