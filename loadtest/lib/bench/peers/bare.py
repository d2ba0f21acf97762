"""The proxy library that Tombolo stands on, with its own loop and nothing else. It has none of the features."""

from .. import certs, lab
from ..work import Contender


def start(at, work, name="bare"):
    """Starts it for the work, which has one endpoint."""
    address, [(host, port)] = at.address(), work.backends
    http2 = str(work.protocol == "grpc").lower()
    return Contender(name, address, [run(at, name, address, "public", f"--upstream={host}:{port}",
                                         f"--http2={http2}", https=True)])


def run(at, name, address, identity, *flags, https=False):
    """Starts one with that certificate."""
    chain, key = certs.leaf(at, identity)
    doors = [f"--http={address}:{lab.HTTP}", *([f"--https={address}:{lab.HTTPS}"] if https else [])]
    process = at.start(name, [at.tools["bare"], *doors, f"--chain={chain}", f"--key={key}", *flags])
    process.until(lambda: lab.listens(address, lab.HTTP))
    return process


def pair(at, work):
    """Two, with a tunnel over HTTP/2."""
    near, far, [(host, port)] = at.address(), at.address(), work.backends
    second = run(at, "bare-far", far, "far", f"--upstream={host}:{port}", f"--clients={certs.authority(at)[0]}",
                 https=True)
    first = run(at, "bare-near", near, "near", f"--upstream={far}:{lab.HTTPS}", f"--tunnel={certs.name('far')}",
                f"--ca={certs.authority(at)[0]}")
    return Contender("bare h2", near, [first, second])
