"""One name's address, asked for over UDP as fast as the answers come."""

import functools
import re

from .. import lab
from ..peers import tombolo
from ..process import Failed
from ..scenario import PEAK, Scenario
from ..work import Contender, Work

ZONE, ADDRESS = "example.com", "192.0.2.1"
RECORDS = f"""\
$ORIGIN {ZONE}.
$TTL 10
@ SOA ns hostmaster 1 3600 600 86400 5
@ NS ns
ns A {ADDRESS}
{lab.HOST}. A {ADDRESS}
"""


def starters(at):
    """All that are there."""
    at.origin()
    at.kept["questions"] = at.file("questions", f"{lab.HOST} A\n")
    servers = {"tombolo": ours, "knotd": knot, "nsd": nsd}
    return {name: functools.partial(start, at) for name, start in servers.items() if at.tools.has(name)}


def ours(at):
    """A mesh, and its DNS server, which follows the gateway's health."""
    clusters, _ = tombolo.mesh(at, Work([at.origin_http]))
    server, address = clusters[0].dns()
    return Contender("tombolo", address, [server])


def knot(at):
    """Knot DNS with one UDP worker; it limits no rates unless told to."""
    folder, address = at.path("knot"), at.address()
    at.file(folder / "zone", RECORDS)
    config = at.file(folder / "knot.conf", f"""\
server:
  rundir: {folder}
  listen: {address}@{lab.DNS}
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
database:
  storage: {folder}
log:
  - target: stderr
    any: warning
zone:
  - domain: {ZONE}
    file: {folder}/zone
    zonefile-sync: -1
    journal-content: none
""")
    return running(at, "knot", address, [at.tools["knotd"], "-c", config])


def nsd(at):
    """NSD with one server, and its limit of answers to one network off, as ours is for this machine."""
    folder, address = at.path("nsd"), at.address()
    at.file(folder / "zone", RECORDS)
    config = at.file(folder / "nsd.conf", f"""\
server:
  server-count: 1
  ip-address: {address}@{lab.DNS}
  username: ""
  zonesdir: "{folder}"
  pidfile: "{folder}/pid"
  database: ""
  zonelistfile: "{folder}/zone.list"
  xfrdfile: "{folder}/xfrd"
  xfrdir: "{folder}"
  rrl-ratelimit: 0
  rrl-whitelist-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: {ZONE}
  zonefile: zone
""")
    return running(at, "nsd", address, [at.tools["nsd"], "-d", "-c", config])


def running(at, name, address, command):
    """Starts it, and waits until it takes connections, as it does once it answers."""
    process = at.start(name, command)
    process.until(lambda: lab.listens(address, lab.DNS))
    return Contender(name, address, [process])


def measure(at, contender):
    """One round of one."""
    [before] = contender.cpu()
    said = at.run([at.tools["dnsperf"], "-s", contender.address, "-p", lab.DNS, "-d", at.kept["questions"],
                   "-l", at.seconds, "-c", 4, "-T", 1, "-q", 100])
    [after] = contender.cpu()
    contender.check()
    lost, completed = (int(re.search(rf"Queries {what}:\s+(\d+)", said)[1]) for what in ("lost", "completed"))
    codes = re.search(r"Response codes:\s+(.*)", said)[1]
    if not codes.startswith("NOERROR") or "," in codes or lost * 1000 > completed:
        raise Failed(f"{contender.name}: {lost} lost, {codes}")
    return {"CPU µs/query": (after - before) / 1000 / completed, "queries/s": completed / at.seconds,
            "lost": lost, PEAK: contender.peak() / 1e6}


ALL = [Scenario("dns", "DNS: the address of a public host, over UDP", starters, measure, ("dnsperf",),
                ("knotd", "nsd"))]
