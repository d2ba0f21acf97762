"""Tombolo: controller, agent and gateway, each its own process; the gateway's time counts, on one worker."""

import json

from .. import certs, lab, process
from ..work import Contender

ONE_WORKER = {"TOKIO_WORKER_THREADS": "1"}
GNS = "bench"
SERVICE = 20081


def start(at, work, name="tombolo"):
    """Starts it for the work."""
    _, contender = mesh(at, work, ("one",), name)
    return contender


def pair(at, work):
    """Two clusters; the service is in the second only."""
    _, contender = mesh(at, work, ("near", "far"))
    return contender


def mesh(at, work, names=("one",), name="tombolo"):
    """A mesh, its clusters, of which the last has the service, and their gateways as a contender, reached at the first.
    """
    made = Mesh(at, name)
    *others, last = names
    clusters = [*(made.join(each, []) for each in others), made.join(last, [service(work)])]
    gateways = [cluster.gateway(features=work.features) for cluster in clusters]
    made.gateways = [cluster.address for cluster in clusters]
    made.apply([namespace(), certificate(at), public(work)])
    contender = Contender(name, clusters[0].address, gateways, made)
    if not work.tls:
        gateways[0].until(lambda: process.answers(contender.url(), lab.HOST))
    return clusters, contender


def stream(at, backend):
    """Starts it for bytes, which workloads of the cluster send."""
    host, port = backend
    bytes_of = manifest("Service", "bytes", {
        "ports": [{"name": "bytes", "port": lab.TCP, "protocol": "tcp"}],
        "versions": [{"name": "v1", "instances": [{"address": host, "port": port}]}],
        "healthCheck": {"protocol": "tcp", "interval": "1s", "timeout": "500ms"}}, namespace=GNS)
    made = Mesh(at)
    cluster = made.join("one", [bytes_of])
    gateway = cluster.gateway()
    workloads = [{"cidr": f"{at.workload}/32", "namespace": GNS}]
    made.apply([namespace(), manifest("Cluster", "one", {"workloads": workloads})])
    gateway.until(lambda: lab.listens(cluster.address, lab.TCP))
    return Contender("tombolo", cluster.address, [gateway])


class Mesh:
    """A controller."""

    def __init__(self, at, name="tombolo"):
        self.at, self.name, self.folder, address = at, name, at.path(name), at.address()
        self.context, admin = self.folder / "context.json", f"{address}:{lab.ADMIN}"
        self.controller = self.start("controller", [
            "controller", f"--state={self.folder}/controller", f"--listen={address}:{lab.API}", "--mesh=bench.internal",
            f"--context={self.context}", f"--admin={admin}"], admin)

    def start(self, name, args, admin, cores=None, env=None):
        """Starts one of its processes and waits until it is ready."""
        started = self.at.start(f"{self.name}, {name}", [self.at.tools["tombolo"], *args],
                                cores or self.at.load_cores, env)
        started.until(lambda: process.answers(f"http://{admin}/readyz"))
        return started

    def command(self, *words, text=None):
        """One of the command line's."""
        return self.at.run([self.at.tools["tombolo"], *words], text, {"TOMBOLO_CONTEXT": str(self.context)})

    def join(self, name, services):
        """A cluster joins, with these services."""
        return Cluster(self, name, services)

    def apply(self, manifests):
        """Applies them, and waits until every gateway acts on them."""
        self.command("apply", "-f", "-", "--wait=60s", text="\n---\n".join(map(json.dumps, manifests)))


class Cluster:
    """An agent, and what it knows of services."""

    def __init__(self, mesh, name, services):
        at, self.mesh, self.name, self.address = mesh.at, mesh, name, mesh.at.address()
        self.folder, agent = mesh.folder / name, at.address()
        (self.folder / "services").mkdir(parents=True)
        for manifest in services:
            at.file(self.folder / f"services/{manifest['metadata']['name']}.json", json.dumps(manifest))
        token = mesh.command("token", "create", f"--cluster={name}").strip()
        self.agent = mesh.start(f"{name}-agent", [
            "agent", f"--state={self.folder}/agent", f"--listen={agent}:{lab.AGENT}", f"--admin={agent}:{lab.ADMIN}",
            f"--services={self.folder}/services"], f"{agent}:{lab.ADMIN}", env={"TOMBOLO_JOIN_TOKEN": token})

    def gateway(self, *, features=True, more=()):
        """Starts its gateway."""
        log = self.mesh.folder / f"{self.name}-access.log" if features else "off"
        return self.mesh.start(f"{self.name}-gateway", [
            "gateway", f"--state={self.folder}/gateway", f"--agent={self.folder}/agent/member.token", "--name=gateway",
            f"--address={self.address}", f"--http-port={lab.HTTP}", f"--https-port={lab.HTTPS}",
            f"--east-west-port={lab.EAST_WEST}", f"--admin-port={lab.ADMIN}", f"--access-log={log}", "--drain-wait=0",
            "--drain-timeout=1", *more], f"{self.address}:{lab.ADMIN}", self.mesh.at.proxy_cores, ONE_WORKER)


    def dns(self):
        """Starts its DNS server; the process and its address."""
        address = self.mesh.at.address()
        started = self.mesh.start(f"{self.name}-dns", [
            "dns", f"--state={self.folder}/dns", f"--agent={self.folder}/agent/member.token", "--name=dns",
            f"--listen={address}:{lab.DNS}", f"--admin={address}:{lab.ADMIN}", f"--gateway-admin-port={lab.ADMIN}"],
            f"{address}:{lab.ADMIN}", self.mesh.at.proxy_cores, ONE_WORKER)
        return started, address


def manifest(kind, name, spec, **metadata):
    """A resource."""
    return {"apiVersion": "tombolo.dev/v1alpha1", "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}


def namespace():
    """One global namespace for all."""
    members = [{"cluster": {"prefix": ""}, "namespace": {"exact": GNS}}]
    return manifest("GlobalNamespace", GNS, {"domain": "bench.internal", "members": members,
                                             "publicHosts": ["*.example.com"]})


def service(work):
    """The endpoints; with the features off they are not checked for an hour."""
    interval = f"{work.interval}s" if work.features else "3600s"
    instances = [{"address": host, "port": port} for host, port in work.backends]
    return manifest("Service", "web", {
        "ports": [{"name": "web", "port": SERVICE, "protocol": work.protocol}],
        "versions": [{"name": "v1", "instances": instances}],
        "healthCheck": {"path": "/", "interval": interval, "timeout": "500ms"},
    }, namespace=GNS)


def certificate(at):
    """The host's, the same as the peers'."""
    chain, key = certs.leaf(at)
    return manifest("Certificate", "public", {"globalNamespace": GNS, "certificate": chain.read_text(),
                                              "key": key.read_text()})


def public(work):
    """The host, through the door that the work needs: one has HTTPS, or plain HTTP."""
    tls = {"mode": "https", "certificate": {"uploaded": "public"}} if work.tls else {"mode": "http"}
    return manifest("PublicService", "web", {
        "globalNamespace": GNS, "service": "web", "port": SERVICE, "hosts": [{"name": lab.HOST}], "tls": tls,
        "routes": [{"pathPrefix": prefix, "service": "web", "port": SERVICE} for prefix in (*work.routes, "/")]})
