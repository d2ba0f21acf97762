"""The proxy library that Tombolo stands on, with its own loop and nothing else. It has none of the features."""

from .. import certs, lab
from ..work import Contender


def start(at, work):
    """Starts it for the work, which has one endpoint."""
    address, (chain, key) = at.at(0, 61), certs.public(at)
    [(host, port)] = work.backends
    process = at.start("bare", [
        at.tools["bare"], f"--http={address}:{lab.HTTP}", f"--https={address}:{lab.HTTPS}", f"--chain={chain}",
        f"--key={key}", f"--upstream={host}:{port}", f"--http2={str(work.protocol == 'grpc').lower()}"])
    process.until(lambda: lab.listens(address, lab.HTTP))
    return Contender("bare", address, [process])
