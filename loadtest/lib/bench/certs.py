"""Certificates for a run, by openssl: an authority, a server's, and one a gateway. All ECDSA with P-256."""

from . import lab


def name(owner):
    """The DNS name of a certificate's owner: of the public host, or of a gateway."""
    return lab.HOST if owner == "public" else f"{owner}.bench.internal"


def pair(at, owner="public"):
    """Chain and key in one file, as HAProxy has it."""
    chain, key = leaf(at, owner)
    return at.file(f"certs/{owner}.pair.pem", chain.read_text() + key.read_text())


def authority(at):
    """Who signs all of them: certificate and key."""
    chain, key = at.folder / "certs/ca.pem", at.folder / "certs/ca.key"
    if not chain.exists():
        chain.parent.mkdir(exist_ok=True)
        _openssl(at, key, chain, "/CN=bench", "-addext", "basicConstraints=critical,CA:TRUE", "-addext",
                 "keyUsage=critical,keyCertSign")
    return chain, key


def leaf(at, owner="public"):
    """A certificate, for servers and for clients, and its key; made once."""
    chain, key = at.folder / f"certs/{owner}.pem", at.folder / f"certs/{owner}.key"
    if not chain.exists():
        signer, signing = authority(at)
        _openssl(at, key, chain, f"/CN={owner}", "-CA", signer, "-CAkey", signing, "-addext",
                 f"subjectAltName=DNS:{name(owner)}", "-addext", "basicConstraints=critical,CA:FALSE")
    return chain, key


def _openssl(at, key, chain, subject, *more):
    at.run([at.tools["openssl"], "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", chain, "-days", "30", "-subj", subject, *more])
