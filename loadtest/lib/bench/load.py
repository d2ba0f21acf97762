"""Load, by programs of others; what it says of the answers. An error is never averaged away: it fails the row."""

import dataclasses
import json
import re

from . import lab
from .process import Failed

CONNECTIONS, H2_CLIENTS, H2_STREAMS = 64, 8, 8
# One suite for all: which is taken must not hang on whose order counts.
SUITE = "TLS_AES_128_GCM_SHA256"


@dataclasses.dataclass
class Answers:
    """What came back."""
    requests: int
    seconds: float
    body_bytes: int = 0


def wrk(at, url, script=None):
    """HTTP/1.1 with keep-alive, as fast as the answers come; a script makes requests that differ."""
    said = at.run([at.tools["wrk"], "-t1", f"-c{CONNECTIONS}", f"-d{at.seconds}s", "--timeout=10s",
                   f"-HHost: {lab.HOST}", *(["-s", script] if script else []), url])
    for line in said.splitlines():
        if "Socket errors" in line or "Non-2xx" in line:
            raise Failed(f"{url}: {line.strip()}")
    requests, seconds = re.search(r"(\d+) requests in ([\d.]+)s", said).groups()
    if requests == "0":
        raise Failed(f"{url}: no answer in {seconds} s; is the machine busy with something else?")
    return Answers(int(requests), float(seconds))


def h2load(at, address, path="/1k", *, protocol="h2", more=()):
    """HTTPS, over one protocol or the other, as fast as the answers come."""
    streams = {"h2": (f"-c{H2_CLIENTS}", f"-m{H2_STREAMS}"), "http/1.1": ("--h1", f"-c{CONNECTIONS}", "-m1")}[protocol]
    url = f"https://{lab.HOST}:{lab.HTTPS}{path}"
    said = at.run([at.tools["h2load"], "-t1", *streams, f"-D{at.seconds}", f"--connect-to={address}:{lab.HTTPS}",
                   f"--tls13-ciphers={SUITE}", *more, url])
    return read_h2load(said, url, protocol, at.seconds)


def open_loop(at, address, rate):
    """Requests at that rate."""
    return client(at, "open-loop", at=f"{address}:{lab.HTTP}", host=lab.HOST, path="/1k", rate=rate, seconds=at.seconds,
                  connections=CONNECTIONS)


def client(at, what, /, **flags):
    """One of our own clients' figures."""
    return json.loads(at.run([at.tools["client"], what, *(f"--{name}={value}" for name, value in flags.items())]))


def read_h2load(said, url, protocol, seconds):
    """Its figures, if all went well."""
    def number(pattern):
        found = re.search(pattern, said)
        if not found:
            raise Failed(f"{url}: h2load said something else:\n{said}")
        return int(found[1])

    done = number(r"(\d+) succeeded")
    bad = sum(number(rf"(\d+) {kind}") for kind in ("failed", "errored", "timeout", "3xx", "4xx", "5xx"))
    spoken = re.search(r"Application protocol: (\S+)", said)
    if bad or not done:
        raise Failed(f"{url}: {bad} failed or not 2xx, {done} good\n{said}")
    if spoken and spoken[1] != protocol:
        raise Failed(f"{url}: {spoken[1]} was spoken, not {protocol}")
    return Answers(done, float(seconds), number(r"\(\S+\) headers.*, \S+ \((\d+)\) data"))


def grpc(at, address):
    """Calls, each of which brings back what it sent. A failed one has status 200 too, but no message."""
    message = b"\0" + (100).to_bytes(4, "big") + b"x" * 100
    path = at.folder / "message"
    path.write_bytes(message)
    answers = h2load(at, address, "/echo.Echo/Call", more=(
        f"-d{path}", "-Hcontent-type: application/grpc", "-Hte: trailers"))
    if answers.body_bytes < answers.requests * len(message):
        raise Failed(f"{address}: {answers.requests} calls brought {answers.body_bytes} bytes back: some failed")
    return answers
