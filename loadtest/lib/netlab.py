"""A mesh of three clusters in network namespaces of its own, which can be cut off from one another. Needs root and `ip`.

Each cluster, the controller and the clients stand in a namespace; a further one, the hub, routes between them. What the
hub drops is lost without a word, as in a broken network: no error comes back to whoever sent it.
"""

import ctypes
import http.client
import json
import os
import pathlib
import signal
import ssl
import subprocess
import tempfile
import time

CLUSTERS = ("north", "south", "west")
# The third part of each namespace's addresses.
NETS = {"north": 1, "south": 2, "west": 3, "controller": 9, "clients": 8}
GATEWAYS = {"gw-a": 11, "gw-b": 12}
INSTANCES = {"i1": 101, "i2": 102, "i3": 103}
HTTPS, SERVICE, ADMIN, EAST_WEST, DNS, INSTANCE = 443, 8080, 7470, 7445, 53, 9000
PUBLIC, MESH = "shop.example.com", "cart.shop.internal"


def run(*command, **more):
    """Runs a command that must succeed; returns what it says."""
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


def address(place, host):
    """An address in a namespace."""
    return f"10.77.{NETS[place]}.{host}"


def gateway(cluster, name):
    """A gateway's address."""
    return address(cluster, GATEWAYS[name])


class Net:
    """The namespaces."""

    def __init__(self):
        self.prefix = f"tombolo-{os.getpid()}-"
        self.hub = self.prefix + "hub"
        run("ip", "netns", "add", self.hub)
        run("ip", "netns", "exec", self.hub, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for place in NETS:
            self._join(place)

    def name(self, place):
        """The namespace of a place."""
        return self.prefix + place

    def _join(self, place):
        name, net = self.name(place), NETS[place]
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", self.hub, "link", "add", place, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "-n", self.hub, "addr", "add", f"10.77.{net}.254/24", "dev", place)
        run("ip", "-n", self.hub, "link", "set", place, "up")
        hosts = {1, 4, 53, *GATEWAYS.values(), *INSTANCES.values()}
        for host in sorted(hosts):
            run("ip", "-n", name, "addr", "add", f"10.77.{net}.{host}/24", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")
        run("ip", "-n", name, "route", "add", "default", "via", f"10.77.{net}.254")

    def _rule(self, action, place, direction):
        run("ip", "-n", self.hub, "rule", action, direction, f"10.77.{NETS[place]}.0/24", "pref", "10", "blackhole")

    def enter(self, place):
        """From now on this thread, and those that it starts, stand there."""
        clone_newnet = 0x40000000
        with open(f"/run/netns/{self.name(place)}") as net:
            if ctypes.CDLL(None, use_errno=True).setns(net.fileno(), clone_newnet) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), net.name)

    def lose(self, place, *directions):
        """Loses what goes to a place, what comes from it, or both."""
        for direction in directions:
            self._rule("add", place, direction)

    def heal(self, place, *directions):
        """Loses it no more."""
        for direction in directions:
            self._rule("del", place, direction)

    def remove(self):
        """Removes them."""
        for place in NETS:
            subprocess.run(["ip", "netns", "del", self.name(place)], capture_output=True)
        subprocess.run(["ip", "netns", "del", self.hub], capture_output=True)


class Process:
    """A process of the binary, which can be killed, stopped and started again as it was."""

    def __init__(self, lab, place, name, arguments):
        self.lab, self.place, self.name, self.arguments = lab, place, name, arguments
        self.start()

    def start(self, environment=None):
        """Starts it, again."""
        log = open(self.lab.state / f"{self.place}-{self.name}.log", "ab")
        command = ["ip", "netns", "exec", self.lab.net.name(self.place), self.lab.binary, *self.arguments]
        environment = {**os.environ, **(environment or {})}
        self.child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)

    def kill(self):
        """Ends it as a power cut would."""
        self.child.kill()
        self.child.wait()

    def stop(self):
        """Lets it hang."""
        self.child.send_signal(signal.SIGSTOP)

    def go_on(self):
        """Lets it go on."""
        self.child.send_signal(signal.SIGCONT)


class Lab:
    """The whole mesh: the controller, and of each cluster an agent, two gateways, a DNS server and three instances."""

    def __init__(self, binary, net):
        self.binary, self.folder = binary, tempfile.TemporaryDirectory(prefix="tombolo-faults-")
        self.state, self.net, self.processes = pathlib.Path(self.folder.name), net, {}
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def close(self):
        """Ends everything."""
        for process in self.processes.values():
            process.child.kill()
            process.child.wait()
        self.folder.cleanup()

    def process(self, name):
        """One by its name: `controller`, `west/gw-a`."""
        return self.processes[name]

    def _spawn(self, place, name, *arguments):
        self.processes[name if place == "controller" else f"{place}/{name}"] = Process(self, place, name, arguments)

    def _start(self):
        context = self.state / "context.json"
        self._spawn("controller", "controller", "controller", f"--state={self.state}/controller",
                    f"--listen={address('controller', 1)}:7443", "--mesh=lab.internal", f"--context={context}",
                    f"--admin={address('controller', 1)}:{ADMIN}")
        until("the controller is up", context.exists)
        self.context = json.loads(context.read_text())
        until("the controller answers", lambda: self.call("GET", "/v1alpha1/status"))
        for cluster in CLUSTERS:
            self._start_cluster(cluster)
        self.call("POST", "/v1alpha1/apply", {"manifests": manifests()})

    def _start_cluster(self, cluster):
        home = self.state / cluster
        (home / "services").mkdir(parents=True)
        for service in ("web", "cart"):
            self.write_service(cluster, service, list(INSTANCES))
        for name, host in INSTANCES.items():
            self._spawn(cluster, name, "demo-service", f"--listen={address(cluster, host)}:{INSTANCE}",
                        f"--tcp-listen={address(cluster, host)}:9001", f"--cluster={cluster}", "--version=v1", f"--name={name}")
        token = self.call("POST", "/v1alpha1/tokens", {"cluster": cluster})["token"]
        self._spawn(cluster, "agent", "agent", f"--state={home}/agent", f"--listen={address(cluster, 4)}:7444",
                    f"--services={home}/services", f"--admin={address(cluster, 4)}:{ADMIN}", f"--join={token}")
        until("the agent has joined", (home / "agent/member.token").exists)
        # From now on it is started without its token, as it would be anywhere.
        self.processes[f"{cluster}/agent"].arguments = self.processes[f"{cluster}/agent"].arguments[:-1]
        member = lambda name: (f"--state={home}/{name}", f"--agent={home}/agent/member.token", f"--name={name}")
        for name in GATEWAYS:
            self._spawn(cluster, name, "gateway", *member(name), f"--address={gateway(cluster, name)}", "--access-log=off",
                        "--drain-wait=0", "--drain-timeout=2")
        self._spawn(cluster, "dns", "dns", *member("dns"), f"--listen={address(cluster, 53)}:{DNS}",
                    f"--admin={address(cluster, 53)}:{ADMIN}", f"--gateway-admin-port={ADMIN}")

    def write_service(self, cluster, name, instances):
        """What the agent of a cluster finds of a service."""
        folder = self.state / cluster / "services"
        spec = {"ports": [{"name": "http", "port": SERVICE, "targetPort": INSTANCE}],
                "versions": [{"name": "v1", "instances": [{"address": address(cluster, INSTANCES[i])} for i in instances]}],
                "healthCheck": {"path": "/healthz", "interval": "1s", "timeout": "500ms"}}
        text = json.dumps(manifest("Service", name, spec, namespace="shop", cluster=cluster))
        half = folder / f"{name}.half"
        half.write_text(text)
        half.rename(folder / f"{name}.json")

    def call(self, method, path, body=None):
        """Calls the controller's API; nothing while it cannot be asked."""
        trust = ssl.create_default_context(cadata=self.context["ca"])
        connection = http.client.HTTPSConnection(self.context["server"].removeprefix("https://"), context=trust, timeout=2)
        headers = {"authorization": "Bearer " + self.context["token"], "content-type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            return None
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status} {text.decode()}")
        return json.loads(text)

    def agree(self):
        """Whether everybody is connected and acts on the newest of everything."""
        status = self.call("GET", "/v1alpha1/status")
        if not status:
            return False
        everybody = status["clusters"] + [member for cluster in status["clusters"] for member in cluster["members"]]
        well = [one for one in everybody if one["connected"] and one["lag"] == 0 and not one.get("localLag")]
        return len(well) == len(everybody) == len(CLUSTERS) * (2 + len(GATEWAYS))


def manifest(kind, name, spec, **metadata):
    """A manifest."""
    return {"apiVersion": "tombolo.dev/v1alpha1", "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}


def manifests():
    """The clients count as workloads of every cluster."""
    workloads = [{"cidr": f"10.77.{NETS['clients']}.0/24", "namespace": "shop"}]
    rows = [{"cluster": {"prefix": ""}, "namespace": {"exact": "shop"}}]
    gns = {"domain": "shop.internal", "members": rows, "publicHosts": ["*.example.com"]}
    public = {"globalNamespace": "shop", "service": "web", "port": SERVICE, "hosts": [{"name": PUBLIC}],
              "tls": {"mode": "https", "certificate": "selfSigned"}, "serviceInfo": True}
    return [*(manifest("Cluster", cluster, {"workloads": workloads}) for cluster in CLUSTERS),
            manifest("GlobalNamespace", "shop", gns), manifest("PublicService", "web", public)]


def until(what, holds, limit=30.0, pause=0.02):
    """Waits until it holds; returns for how long, in seconds."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() > began + limit:
            raise SystemExit(f"not after {limit} s: {what}")
        time.sleep(pause)
    return time.monotonic() - began
