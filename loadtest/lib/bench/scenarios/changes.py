"""Changes while requests go from one cluster to another: how long until every gateway acts on one, and whether one of
the requests fails."""

import concurrent.futures
import http.client
import json
import re
import ssl
import statistics
import time

from .. import lab, load
from ..peers import tombolo
from ..process import Failed
from ..scenario import OURS, Scenario
from ..work import Work
from .latency import STEADY_TUNNEL

# From one change to the next.
PAUSE = 0.02


def starters(at):
    """Two clusters."""
    at.origin()
    return {OURS: lambda: tombolo.pair(at, Work([at.origin_http]))}


def measure(at, contender):
    """Applies host after host while load runs; a request that fails is the row's failure."""
    took = []
    with concurrent.futures.ThreadPoolExecutor() as beside:
        answers = beside.submit(load.open_loop, at, contender.address, STEADY_TUNNEL)
        while not answers.done():
            took.append(change(contender.mesh, len(took)))
            time.sleep(PAUSE)
    contender.check()
    took.sort()
    return {"p99 ms": took[int(len(took) * 0.99)] * 1000, "median ms": statistics.median(took) * 1000,
            "max ms": took[-1] * 1000, "changes": len(took), "requests": answers.result()["requests"],
            "their p99 ms": answers.result()["p99"] / 1000}


def change(mesh, turn):
    """Another host for one public service; how long until both gateways have it, in seconds."""
    context = json.loads(mesh.context.read_text())
    host = f"extra-{turn}.example.com"
    extra = tombolo.manifest("PublicService", "extra", {
        "globalNamespace": tombolo.GNS, "service": "web", "port": tombolo.SERVICE, "hosts": [{"name": host}],
        "tls": {"mode": "http"}})
    began = time.perf_counter()
    revision = call(context, {"manifests": [extra]})["revision"]
    for address in mesh.gateways:
        while acted_on(address) < revision:
            time.sleep(0.001)
    return time.perf_counter() - began


def call(context, body):
    """Applies."""
    trust = ssl.create_default_context(cadata=context["ca"])
    connection = http.client.HTTPSConnection(context["server"].removeprefix("https://"), context=trust, timeout=10)
    headers = {"authorization": "Bearer " + context["token"], "content-type": "application/json"}
    connection.request("POST", "/v1alpha1/apply", json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise Failed(f"apply: {answer.status} {text.decode()}")
    return json.loads(text)


def acted_on(address):
    """The revision that a gateway acts on."""
    connection = http.client.HTTPConnection(address, lab.ADMIN, timeout=10)
    connection.request("GET", "/metrics")
    found = re.search(r"^tombolo_revision (\S+)", connection.getresponse().read().decode(), re.MULTILINE)
    connection.close()
    return int(float(found[1])) if found else -1


ALL = [Scenario("changes", "changes under load over two clusters: applied → both gateways act on it", starters,
                measure)]
