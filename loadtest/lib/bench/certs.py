"""Certificates for a run, by openssl: an authority, a server's, and one a gateway. All ECDSA with P-256."""

from . import lab


def public(at):
    """The chain and key of the public host, the same for every proxy."""
    return leaf(at, "public", lab.HOST)


def pair(at, name="public", host=lab.HOST):
    """Chain and key in one file, as HAProxy has it."""
    chain, key = leaf(at, name, host)
    return at.file(f"certs/{name}.pair.pem", chain.read_text() + key.read_text())


def authority(at):
    """Who signs all of them: certificate and key."""
    chain, key = at.folder / "certs/ca.pem", at.folder / "certs/ca.key"
    if not chain.exists():
        chain.parent.mkdir(exist_ok=True)
        _openssl(at, key, chain, "/CN=bench", "-addext", "basicConstraints=critical,CA:TRUE", "-addext",
                 "keyUsage=critical,keyCertSign")
    return chain, key


def leaf(at, name, host):
    """A certificate for a host, for servers and for clients; made once."""
    chain, key = at.folder / f"certs/{name}.pem", at.folder / f"certs/{name}.key"
    if not chain.exists():
        signer, signing = authority(at)
        _openssl(at, key, chain, f"/CN={host}", "-CA", signer, "-CAkey", signing, "-addext",
                 f"subjectAltName=DNS:{host}", "-addext", "basicConstraints=critical,CA:FALSE")
    return chain, key


def _openssl(at, key, chain, subject, *more):
    at.run([at.tools["openssl"], "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", chain, "-days", "30", "-subj", subject, *more])
