#!/usr/bin/env python3
"""Applies changes one after another to a running demo and measures how long each takes until every gateway acts on it.

Run it while `loadtest/run public` puts load on the same demo, or by `loadtest/run mixed NUMBER`. Three kinds take
turns: a host is added or removed, an uploaded certificate is replaced, and the instances of SERVICE (cart) change.
Standard library and the `openssl` command.

  TOMBOLO_DEMO=…/env loadtest/changes.py [NUMBER]
"""

import http.client
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from lib import demo
from lib.controller import call, manifest

DEMO = demo.said()
STATE = demo.ENV.parent
GATEWAYS = [entry.split("=")[1] for entry in DEMO["HOSTS"].split(",")]
SERVICE = os.environ.get("SERVICE", "cart")


class Gateway(threading.Thread):
    """Follows what one gateway acts on: asks again and again, over one connection."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address, self.revision, self.instances = address, -1, None
        self.start()

    def run(self):
        connection = http.client.HTTPConnection(self.address, demo.ADMIN, timeout=10)
        while True:
            connection.request("GET", "/metrics")
            for line in connection.getresponse().read().decode().splitlines():
                if line.startswith("tombolo_revision "):
                    self.revision = int(float(line.split()[1]))
            connection.request("GET", "/v1/health")
            view = json.loads(connection.getresponse().read())
            self.instances = sum(view["services"]["shop"].get(SERVICE, {}).values())
            time.sleep(0.002)


def certificate(folder, turn):
    key, chain = folder / "key.pem", folder / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                    key, "-out", chain, "-days", "30", "-subj", f"/CN=turn {turn}", "-addext",
                    "subjectAltName=DNS:own.example.com"], check=True, capture_output=True)
    spec = {"globalNamespace": "shop", "certificate": chain.read_text(), "key": key.read_text()}
    return manifest("Certificate", "own", spec)


def public(name, host, certificate):
    return manifest("PublicService", name, {
        "globalNamespace": "shop", "service": "web", "port": 8080, "hosts": [{"name": host}],
        "tls": {"mode": "https", "certificate": certificate}})


def change_host(turn, folder):
    body = {"manifests": [public("extra", f"extra-{turn}.example.com", "selfSigned")]}
    return call("POST", "/v1alpha1/apply", body)["revision"]


def change_certificate(turn, folder):
    manifests = [certificate(folder, turn), public("own", "own.example.com", {"uploaded": "own"})]
    began = time.perf_counter()
    return call("POST", "/v1alpha1/apply", {"manifests": manifests})["revision"], began


def change_instances(turn):
    """Takes one instance of west away from SERVICE, or brings it back; returns how many there are then."""
    path = STATE / f"west/services/{SERVICE}.json"
    manifest = json.loads(path.read_text())
    for version in manifest["spec"]["versions"]:
        if version["name"] == "v1":
            taken = len(version["instances"]) == 2
            version["instances"] = version["instances"][:1] if taken else version["instances"] + [
                {"address": version["instances"][0]["address"].rsplit(".", 1)[0] + ".2"}]
    half = path.with_suffix(".half")
    half.write_text(json.dumps(manifest))
    began = time.perf_counter()
    half.rename(path)
    return (8 if taken else 9), began


def wait(done):
    deadline = time.monotonic() + 20
    while not done():
        if time.monotonic() > deadline:
            sys.exit("a change did not take effect within 20 s")
        time.sleep(0.001)
    return time.perf_counter()


def main():
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    gateways = [Gateway(address) for address in GATEWAYS]
    took = {"host": [], "certificate": [], "instance": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(number):
            kind = ("host", "certificate", "instance")[turn % 3]
            if kind == "instance":
                count, began = change_instances(turn)
                ended = wait(lambda: all(gateway.instances == count for gateway in gateways))
            elif kind == "certificate":
                revision, began = change_certificate(turn, pathlib.Path(folder))
                ended = wait(lambda: all(gateway.revision >= revision for gateway in gateways))
            else:
                began = time.perf_counter()
                revision = change_host(turn, pathlib.Path(folder))
                ended = wait(lambda: all(gateway.revision >= revision for gateway in gateways))
            took[kind].append((ended - began) * 1000)
    for kind, times in {**took, "all": sum(took.values(), [])}.items():
        if not times:
            continue
        times.sort()
        p99 = times[min(len(times) - 1, int(len(times) * 0.99))]
        print(f"{kind:12} {len(times):4} changes, all of {len(gateways)} gateways: median {statistics.median(times):6.1f} ms"
              f"  p99 {p99:6.1f} ms  max {times[-1]:6.1f} ms")


main()
