"""Tombolo: controller, agent and gateway, each its own process; the gateway's time counts, on one worker."""

import json

from .. import certs, lab, process
from ..work import Contender

ONE_WORKER = {"TOKIO_WORKER_THREADS": "1"}
GNS = "bench"
SERVICE = 20081


def start(at, work):
    """Starts it for the work."""
    mesh = Mesh(at)
    cluster = mesh.join("one", 11, [service(work)])
    gateway = cluster.gateway(features=work.features)
    mesh.apply([namespace(), certificate(at), public(work)])
    return Contender("tombolo", cluster.address, [gateway])


class Mesh:
    """A controller."""

    def __init__(self, at, name="mesh"):
        self.at, self.folder = at, at.folder / name
        self.folder.mkdir()
        self.context, address, admin = self.folder / "context.json", at.at(0, 1), f"{at.at(0, 1)}:{lab.ADMIN}"
        self.controller = self.start("controller", [
            "controller", f"--state={self.folder}/controller", f"--listen={address}:{lab.API}", "--mesh=bench.internal",
            f"--context={self.context}", f"--admin={admin}"], admin)

    def start(self, name, args, admin, cores=None, env=None):
        """Starts one of its processes and waits until it is ready."""
        started = self.at.start(f"{self.folder.name}-{name}", [self.at.tools["tombolo"], *args],
                                cores or self.at.load_cores, env)
        started.until(lambda: process.answers(f"http://{admin}/readyz"))
        return started

    def command(self, *words, text=None):
        """One of the command line's."""
        return self.at.run([self.at.tools["tombolo"], *words], text, {"TOMBOLO_CONTEXT": str(self.context)})

    def join(self, name, number, services):
        """A cluster joins, with these services."""
        return Cluster(self, name, number, services)

    def apply(self, manifests):
        """Applies them, and waits until every gateway acts on them."""
        self.command("apply", "-f", "-", "--wait=60s", text="\n---\n".join(map(json.dumps, manifests)))


class Cluster:
    """An agent, and what it knows of services."""

    def __init__(self, mesh, name, number, services):
        at, self.mesh, self.name, self.address = mesh.at, mesh, name, mesh.at.at(0, number)
        self.folder = mesh.folder / name
        for manifest in services:
            at.file(f"{mesh.folder.name}/{name}/services/{manifest['metadata']['name']}.json", json.dumps(manifest))
        token, agent = mesh.command("token", "create", f"--cluster={name}").strip(), at.at(0, number + 40)
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
    chain, key = certs.public(at)
    return manifest("Certificate", "public", {"globalNamespace": GNS, "certificate": chain.read_text(),
                                              "key": key.read_text()})


def public(work):
    """The host, through the door that the work needs: one has HTTPS, or plain HTTP."""
    tls = {"mode": "https", "certificate": {"uploaded": "public"}} if work.tls else {"mode": "http"}
    return manifest("PublicService", "web", {
        "globalNamespace": GNS, "service": "web", "port": SERVICE, "hosts": [{"name": lab.HOST}], "tls": tls})
