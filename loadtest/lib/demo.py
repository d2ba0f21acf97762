"""What the running demo says about itself, for the load tests that need more than k6. Standard library only."""

import os
import pathlib
import ssl
import sys
import typing

HTTPS = 18443
ADMIN = 7470
PUBLIC = "shop.example.com"
ECHO = "echo.example.com"

_STATE = os.environ.get("XDG_STATE_HOME") or pathlib.Path.home() / ".local/state"
ENV = pathlib.Path(os.environ.get("TOMBOLO_DEMO") or pathlib.Path(_STATE) / "tombolo/demo/env")


def said():
    """The lines of the demo's environment file, by name."""
    try:
        return dict(line.split("=", 1) for line in ENV.read_text().splitlines())
    except FileNotFoundError:
        sys.exit(f"no demo is running (looked at {ENV}): start one with 'tombolo demo' in another terminal")


class Gateway(typing.NamedTuple):
    """One of the demo's gateways."""
    name: str
    pid: int
    address: str

    def memory(self):
        """What it has resident, in bytes."""
        with open(f"/proc/{self.pid}/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

    def descriptors(self):
        """How many files and sockets it may open."""
        with open(f"/proc/{self.pid}/limits") as limits:
            return next(int(line.split()[3]) for line in limits if line.startswith("Max open files"))


def gateways():
    """All of them, in the order of their names."""
    lines = said()
    names = sorted(name.removeprefix("HOSTS_") for name in lines if name.startswith("HOSTS_") and "_gw_" in name)
    return [Gateway(name, int(lines[f"PIDS_{name}"]), lines[f"HOSTS_{name}"].split("=")[1]) for name in names]


def trust(*alpn):
    """A TLS context that trusts the demo's CA and offers these protocols."""
    context = ssl.create_default_context(cafile=said()["SSL_CERT_FILE"])
    context.set_alpn_protocols(alpn or ("http/1.1",))
    return context


def megabytes(count):
    """A number of bytes, for people."""
    return f"{count / 1e6:.1f} MB"


def verdict(held, text):
    """Says how it ended, in one line, and ends: with 0 when everything held, with 99 when something did not."""
    print(f"{'PASSED' if held else 'FAILED'}  {text}")
    sys.exit(0 if held else 99)
