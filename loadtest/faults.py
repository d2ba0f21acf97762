#!/usr/bin/env python3
"""What breaks, how many requests it costs, and how long until nobody is sent there any more: as a Markdown table.

  sudo loadtest/faults.py [BINARY] [WORD…]     only the faults whose names have one of the words

It makes network namespaces of its own, and a mesh of three clusters in them (see lib/netlab.py). Faults happen in west, or
to the controller; RATE requests/s (200) go through the living gateways of north and south, half of them public ones over
HTTPS, half of workloads, each GET on a kept connection. TOMBOLO_KEEP keeps the logs. Standard library only; `cc` for the
skewed clocks.
"""

import collections
import http.client
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import typing

from lib import demo, netlab
from lib.netlab import ADMIN, GATEWAYS, INSTANCES, MESH, PUBLIC, SERVICE, until

RATE = int(os.environ.get("RATE", "200"))
# For so long a fault lasts, at the least; one of the control plane for longer, so that streams are given up meanwhile.
LASTS = float(os.environ.get("LASTS", "6"))
LONG = 15.0
# What must leave is out after so long, in seconds, at the latest.
BOUND = float(os.environ.get("BOUND", "3"))
LIVING = [(cluster, name) for cluster in ("north", "south") for name in GATEWAYS]
EVERYBODY = [(cluster, name) for cluster in netlab.CLUSTERS for name in GATEWAYS]

ARTICLES = {"gw-a": "a gateway", "agent": "an agent"}

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, at);
    if (!failed && clock == CLOCK_REALTIME) at->tv_sec += atoi(getenv("SKEW_SECONDS"));
    return failed;
}
"""


class Client(threading.Thread):
    """Requests at its share of the rate."""

    def __init__(self, connect, host, share, stop):
        super().__init__(daemon=True)
        self.connect, self.headers, self.pause, self.stop = connect, {"Host": host}, 1 / share, stop
        self.log = []  # (begun, lasted, cluster and instance, or why it failed)

    def run(self):
        connection, due = self.connect(), time.monotonic()
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                connection.request("GET", "/", headers=self.headers)
                answer = connection.getresponse()
                answer.read()
                said = answer.getheader("tombolo-served-by") if answer.status == 200 else None
                failed = None if answer.status == 200 else f"{answer.status} {answer.getheader('tombolo-refusal')}"
                if answer.will_close:
                    connection.close()
            except (OSError, http.client.HTTPException) as error:
                said, failed = None, repr(error)
                connection.close()
            self.log.append((began, time.monotonic() - began, said, failed))
            due = max(due + self.pause, time.monotonic() - 1)  # what was missed for longer is not made up for
            time.sleep(max(0.0, due - time.monotonic()))


class Load:
    """All clients."""

    def __init__(self, lab):
        self.stop, share = threading.Event(), RATE / (2 * len(LIVING))
        trust = ssl.create_default_context(cadata=lab.context["ca"])

        class Public(http.client.HTTPSConnection):
            """To a gateway's address, in the public host's name."""

            def connect(self):
                http.client.HTTPConnection.connect(self)
                self.sock = trust.wrap_socket(self.sock, server_hostname=PUBLIC)

        self.clients = []
        for at in (netlab.gateway(*living) for living in LIVING):
            public = lambda at=at: Public(at, netlab.HTTPS, timeout=10, context=trust)
            mesh = lambda at=at: http.client.HTTPConnection(at, SERVICE, timeout=10)
            self.clients += [Client(public, PUBLIC, share, self.stop), Client(mesh, MESH, share, self.stop)]
        for client in self.clients:
            client.start()

    def since(self, began):
        """What was asked since then."""
        return [entry for client in self.clients for entry in list(client.log) if entry[0] >= began]

    def settle(self):
        """Waits until every client has an answer to something that it asked from now on: a request that hangs counts, too."""
        now = time.monotonic()
        for client in self.clients:
            until("a client goes on", lambda: client.log and client.log[-1][0] >= now, 15)

    def serves(self, cluster):
        """Whether the last requests were served by a cluster, too."""
        last = self.since(time.monotonic() - 1)
        return any(said and said.startswith(cluster + "/") for _, _, said, _ in last)


class Views:
    """What each living gateway knows of the others, asked again and again."""

    def __init__(self):
        self.now = {}
        for living in LIVING:
            threading.Thread(target=self._follow, args=(living,), daemon=True).start()

    def _follow(self, living):
        connection = http.client.HTTPConnection(netlab.gateway(*living), ADMIN, timeout=2)
        while True:
            try:
                connection.request("GET", "/v1/health")
                self.now[living] = json.loads(connection.getresponse().read())
            except (OSError, http.client.HTTPException, ValueError):
                connection.close()
            time.sleep(0.01)

    def all(self, holds):
        """Whether it holds of what every living gateway knows."""
        return len(self.now) == len(LIVING) and all(holds(view) for view in list(self.now.values()))

    def count(self, number, cluster="west"):
        """Whether all find so many healthy instances of that cluster, by the gateways that they reach."""
        return self.all(lambda view: all(view["services"]["shop"].get(service, {}).get(cluster) == number
                                         for service in ("web", "cart")))

    def reach(self, gateway, live, cluster="west"):
        """Whether all find that gateway live, or not."""
        return self.all(lambda view: view["gateways"].get(cluster, {}).get(gateway) is live)


class Fault(typing.NamedTuple):
    """Something that breaks, and how it is mended."""
    name: str
    breaks: typing.Callable
    mends: typing.Callable
    # Whether nobody is sent there any more; nothing when nothing has to leave.
    out: typing.Optional[typing.Callable] = None
    # Whether it is in again.
    back: typing.Callable = lambda lab, views, load: lab.agree()
    lasts: float = LASTS
    # What is so again before its end.
    meanwhile: typing.Callable = lambda lab, views, load: True


def killed(*names):
    return (lambda lab: [lab.process(name).kill() for name in names], lambda lab: [lab.process(name).start() for name in names])


def stopped(*names):
    return (lambda lab: [lab.process(name).stop() for name in names], lambda lab: [lab.process(name).go_on() for name in names])


def lost(place, *directions):
    return (lambda lab: lab.net.lose(place, *directions), lambda lab: lab.net.heal(place, *directions))


def skewed(lab, name, seconds):
    shim = lab.state / "skew.so"
    if not shim.exists():
        source = lab.state / "skew.c"
        source.write_text(SHIM)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    lab.process(name).kill()
    lab.process(name).start({"LD_PRELOAD": str(shim), "SKEW_SECONDS": str(seconds)})


def wrong(name, seconds):
    return (lambda lab: skewed(lab, name, seconds), lambda lab: restarted(lab, name))


def restarted(lab, name):
    lab.process(name).kill()
    lab.process(name).start()


def with_change(fault):
    """The directory of the agent's services changes meanwhile, and what has changed must count afterwards."""
    breaks, mends = fault

    def change(lab):
        breaks(lab)
        lab.write_service("west", "cart", ["i2", "i3"])

    return change, mends


def with_restart(fault):
    """A gateway starts meanwhile, with nobody but its disk to ask."""
    breaks, mends = fault

    def restart(lab):
        breaks(lab)
        restarted(lab, "west/gw-a")
        began = time.monotonic()
        until("the gateway serves", lambda: answers(netlab.gateway("west", "gw-a")), 30, 0.01)
        print(f"a gateway restarted with nobody in reach serves workloads after {time.monotonic() - began:.2f} s")

    return restart, mends


def answers(gateway):
    """Whether a gateway answers a workload."""
    connection = http.client.HTTPConnection(gateway, SERVICE, timeout=1)
    try:
        connection.request("GET", "/", headers={"Host": MESH})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def faults():
    """All of them."""
    everything = lambda lab, views, load: views.count(3) and views.reach("gw-a", True) and load.serves("west")
    agreed = lambda lab, views, load: everything(lab, views, load) and lab.agree()
    heeded = lambda lab, views, load: lab.agree() and views.all(lambda view: view["services"]["shop"]["cart"]["west"] == 2)
    no_gateway = lambda views: views.reach("gw-a", False)
    no_cluster = lambda views: views.reach("gw-a", False) and views.reach("gw-b", False) and views.count(0)
    two = lambda views: views.count(2)
    west = [f"west/{name}" for name in (*GATEWAYS, *INSTANCES, "agent", "dns")]
    reached = lambda lab, views, load: views.reach("gw-a", True) and views.count(3)
    agents = [f"{cluster}/agent" for cluster in netlab.CLUSTERS]
    yield Fault("controller killed", *killed("controller"))
    yield Fault("controller stopped", *stopped("controller"), lasts=LONG)
    yield Fault("agent killed, a service changed meanwhile", *with_change(killed("west/agent")), back=heeded)
    yield Fault("agent stopped, a service changed meanwhile", *with_change(stopped("west/agent")), None, heeded, LONG)
    yield Fault("controller and all agents killed", *killed("controller", *agents))
    yield Fault("both killed, and a gateway restarted", *with_restart(killed("controller", *agents)), meanwhile=reached)
    yield Fault("both killed, and an instance", *killed("controller", *agents, "west/i1"), two, agreed)
    yield Fault("instance killed", *killed("west/i1"), two, everything)
    yield Fault("instance stopped", *stopped("west/i1"), two, everything)
    yield Fault("gateway killed", *killed("west/gw-a"), no_gateway, agreed)
    yield Fault("gateway stopped", *stopped("west/gw-a"), no_gateway, agreed)
    yield Fault("cluster killed", *killed(*west), no_cluster, agreed)
    yield Fault("cluster stopped", *stopped(*west), no_cluster, agreed)
    yield Fault("partition: cluster", *lost("west", "to", "from"), no_cluster, agreed)
    yield Fault("one-way: to the cluster", *lost("west", "to"), no_cluster, agreed)
    yield Fault("one-way: from the cluster", *lost("west", "from"), no_cluster, agreed)
    yield Fault("partition: controller", *lost("controller", "to", "from"), lasts=LONG)
    for process in ("gw-a", "agent"):
        for seconds in (50, -50):
            yield Fault(f"clock of {ARTICLES[process]} {seconds:+} s", *wrong(f"west/{process}", seconds), None, agreed,
                        meanwhile=reached)
    # Its certificates have ended; those of others are not valid yet.
    for name, seconds in (("60 days ahead", 60 * 86_400), ("a day behind", -86_400)):
        yield Fault(f"clock of a gateway {name}", *wrong("west/gw-a", seconds), no_gateway, agreed)


class Row(typing.NamedTuple):
    """What a fault did."""
    name: str
    out: typing.Optional[float]
    back: float
    requests: int
    failed: collections.Counter
    slowest: float

    def markdown(self):
        out = "–" if self.out is None else f"{self.out:.1f}"
        return f"| {self.name} | {self.requests} | {sum(self.failed.values())} | {self.slowest:.1f} | {out} | {self.back:.1f} |"


def endure(lab, views, load, fault):
    """One fault, from a sound mesh to a sound mesh."""
    for service in ("web", "cart"):
        lab.write_service("west", service, list(INSTANCES))
    sound = lambda: lab.agree() and views.count(3) and all(load.serves(cluster) for cluster in netlab.CLUSTERS)
    until("the mesh is sound", sound, 60)
    began = time.monotonic()
    fault.breaks(lab)
    broke = time.monotonic()  # the commands that break it take some milliseconds themselves
    out = None if fault.out is None else until(f"{fault.name}: out", lambda: fault.out(views))
    until(f"{fault.name}: meanwhile", lambda: fault.meanwhile(lab, views, load))
    time.sleep(max(0.0, broke + fault.lasts - time.monotonic()))
    fault.mends(lab)
    back = until(f"{fault.name}: back", lambda: fault.back(lab, views, load), 60)
    time.sleep(1)
    load.settle()
    entries = load.since(began)
    failed = collections.Counter(failed for *_, failed in entries if failed)
    return Row(fault.name, out, back, len(entries), failed, max(lasted for _, lasted, _, _ in entries))


def show(rows, binary):
    version = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.strip()
    print(f"\n{version}, {os.cpu_count()} cores, {RATE} requests/s, {time.strftime('%Y-%m-%d')}\n")
    print("| fault | requests | failed | slowest, s | out of rotation, s | all as before after its end, s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        print(row.markdown())


def main():
    arguments = sys.argv[1:]
    binary = arguments.pop(0) if arguments and os.path.exists(arguments[0]) else "target/release/tombolo"
    if os.geteuid() != 0 or not os.path.exists(binary):
        sys.exit(__doc__)
    net, lab, rows = netlab.Net(), None, []
    try:
        net.enter("clients")
        lab = netlab.Lab(os.path.abspath(binary), net)
        load, views = Load(lab), Views()
        for fault in faults():
            if not arguments or any(word in fault.name for word in arguments):
                rows.append(endure(lab, views, load, fault))
                print(rows[-1].markdown(), *(f"{count} × {why}" for why, count in rows[-1].failed.items()), flush=True)
        load.stop.set()
    finally:
        if lab and os.environ.get("TOMBOLO_KEEP"):
            subprocess.run(["cp", "-r", lab.state, os.environ["TOMBOLO_KEEP"]], check=False)
        if lab:
            lab.close()
        net.remove()
    show(rows, binary)
    failed = sum(sum(row.failed.values()) for row in rows)
    late = [row.name for row in rows if row.out and row.out > BOUND]
    demo.verdict(not failed and not late, f"{failed} requests failed; out of rotation too late: {', '.join(late) or 'none'}")


main()
