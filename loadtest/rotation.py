#!/usr/bin/env python3
"""Replaces certificates of every level of a running demo under a steady load; no request may fail.

  loadtest/rotation.py levels            the four levels one after another, by command; the lower three ROUNDS times (1)
  loadtest/rotation.py lives [MINUTES]   by timer: leaves live 60 s, issuing CAs 180 s, the GNS's CA 540 s (20 minutes)

RATE requests/s (500): half of them public ones over HTTPS, half of workloads, through every gateway in turn; two of
three go on through a tunnel. TOMBOLO_DEMO names another demo's env file. Standard library only.
"""

import collections
import http.client
import os
import sys
import threading
import time

from lib import demo
from lib.controller import call, manifest

RATE = int(os.environ.get("RATE", "500"))
ROUNDS = int(os.environ.get("ROUNDS", "1"))
SERVICE_PORT = 8080
MESH_HOST = "cart.shop.internal"
LIVES = {"leafLifetime": "60s", "issuingLifetime": "180s", "caLifetime": "540s"}
# How often each level must have been replaced, at least, for each minute of the second kind; leaves for each gateway.
EXPECTED = {"leaf": 6 * 1.2, "issuing": 3 * 0.4, "gns": 0.13}


class Client(threading.Thread):
    """Requests at its share of the rate, over one connection that is kept as long as the gateway keeps it."""

    def __init__(self, connect, headers, share, stop):
        super().__init__(daemon=True)
        self.connect, self.headers, self.pause, self.stop = connect, headers, 1 / share, stop
        self.done, self.failures, self.slowest = 0, [], 0.0

    def run(self):
        connection, due = self.connect(), time.monotonic()
        while not self.stop.is_set():
            due += self.pause
            began = time.monotonic()
            try:
                connection.request("GET", "/", headers=self.headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.failures.append(f"{answer.status} {answer.getheader('tombolo-refusal')}")
                if answer.will_close:
                    connection.close()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.done += 1
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic() - 1)  # what was missed for longer than that is not made up for


def public(address):
    trust = demo.trust()
    trust.check_hostname = True

    class Connection(http.client.HTTPSConnection):
        """To the gateway's address, in the public host's name."""

        def connect(self):
            http.client.HTTPConnection.connect(self)
            self.sock = trust.wrap_socket(self.sock, server_hostname=demo.PUBLIC)

    return Connection(address, demo.HTTPS, timeout=10)


def mesh(address):
    workload = address.rsplit(".", 2)[0] + ".2.1"
    return http.client.HTTPConnection(address, SERVICE_PORT, timeout=10, source_address=(workload, 0))


def load(stop):
    gateways = demo.gateways()
    share = RATE / (2 * len(gateways))
    clients = [Client(lambda at=gateway.address: public(at), {"Host": demo.PUBLIC}, share, stop) for gateway in gateways]
    clients += [Client(lambda at=gateway.address: mesh(at), {"Host": MESH_HOST}, share, stop) for gateway in gateways]
    for client in clients:
        client.start()
    return clients


class Watch:
    """What has been seen of certificates: how many of each level, and each phase of each rotation once."""

    def __init__(self):
        self.serials, self.phases = collections.defaultdict(set), []

    def look(self):
        status = call("GET", "/v1alpha1/certificates")
        for row in status["certificates"]:
            self.serials[(row["level"], row.get("globalNamespace", ""))].add((row["holder"].split(" (")[0], row["serial"]))
        for rotation in status["rotations"]:
            seen = (rotation["level"], rotation["phase"], ", ".join(rotation["waiting"]))
            if not self.phases or self.phases[-1] != seen:
                self.phases.append(seen)
        return status

    def replaced(self, level, gns="shop"):
        """How many certificates took the place of another."""
        seen = self.serials[(level, gns)]
        return len(seen) - len({holder for holder, _ in seen})


def levels(watch, names):
    """These levels in sequence."""
    watch.look()
    for level in names:
        began, before = time.monotonic(), len(watch.phases)
        call("POST", "/v1alpha1/certificates/rotate", {"level": level})
        while watch.look()["rotations"]:
            if time.monotonic() > began + 120:
                demo.verdict(False, f"{level} is not replaced after 120 s: {watch.look()['rotations']}")
            time.sleep(0.02)
        phases = " → ".join(dict.fromkeys(phase for _, phase, _ in watch.phases[before:]))
        print(f"{level:8} replaced in {time.monotonic() - began:5.2f} s  {phases}", flush=True)
        time.sleep(1)


def lives(watch, minutes):
    """Short lives, and time."""
    spec = call("GET", "/v1alpha1/resources/GlobalNamespace/shop")["spec"]
    call("POST", "/v1alpha1/apply", {"manifests": [manifest("GlobalNamespace", "shop", {**spec, "certificates": LIVES})]})
    call("POST", "/v1alpha1/certificates/rotate", {"level": "gns", "globalNamespace": "shop"})
    end, said = time.monotonic() + minutes * 60, 0
    while time.monotonic() < end:
        watch.look()
        if time.monotonic() > said + 60:
            said = time.monotonic()
            counts = ", ".join(f"{watch.replaced(level)} {level}" for level in EXPECTED)
            print(f"{(end - said) / 60:4.0f} minutes left; replaced so far: {counts}", flush=True)
        time.sleep(0.5)
    return [f"only {watch.replaced(level)} {level}" for level, least in EXPECTED.items()
            if watch.replaced(level) < int(least * minutes)]


def main():
    kind = sys.argv[1] if len(sys.argv) > 1 else "levels"
    if kind not in ("levels", "lives"):
        sys.exit(__doc__)
    stop, watch = threading.Event(), Watch()
    clients = load(stop)
    time.sleep(2)
    missing = []
    if kind == "levels":
        for _ in range(ROUNDS):
            levels(watch, ("leaf", "issuing", "gns"))
        levels(watch, ("top",))  # once: who knows only the CA before the last one must refresh what he knows
    else:
        missing = lives(watch, float(sys.argv[2]) if len(sys.argv) > 2 else 20)
    stop.set()
    for client in clients:
        client.join(15)
    done, failures = sum(client.done for client in clients), sum((client.failures for client in clients), [])
    for failure, count in collections.Counter(failures).most_common(5):
        print(f"{count:6} × {failure}")
    slowest = max(client.slowest for client in clients)
    text = f"{done} requests, {len(failures)} failed, the slowest took {slowest * 1000:.0f} ms"
    demo.verdict(done > 0 and not failures and not missing, "; ".join([text, *missing]))


main()
