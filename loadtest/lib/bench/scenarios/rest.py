"""What happens before load and without it: the start, and connections that do nothing."""

import resource
import subprocess
import time

from .. import certs, lab, process
from ..process import Failed
from ..scenario import PEAK, proxying
from .http import EVERYONE, plain, secure

IDLE = 10_000


def start_up(at, contender):
    """From the start of a process that ran here before to its first answer."""
    [running] = contender.processes
    running.stop()
    began = time.perf_counter()
    running.again()
    running.until(lambda: process.answers(contender.url(), lab.HOST))
    took = time.perf_counter() - began
    return {"start ms": took * 1000, "CPU ms": running.cpu() / 1e6, PEAK: contender.peak() / 1e6}


def idle(at, contender):
    """Many connections of clients that have made one request."""
    [running] = contender.processes
    running.stop()
    running.again()
    running.until(lambda: lab.listens(contender.address, lab.HTTPS))
    number = min(IDLE, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200) // 2)
    hold(at, contender, 50)
    before = running.memory()
    after = hold(at, contender, number)
    return {"kB/connection": (after - before) / number / 1e3, "MB with all": after / 1e6, "MB before": before / 1e6,
            "connections": number}


def hold(at, contender, number):
    """Opens so many, and closes them again; what was resident meanwhile, in bytes."""
    command = [at.tools["client"], "idle", f"--at={contender.address}:{lab.HTTPS}", f"--host={lab.HOST}",
               f"--ca={certs.authority(at)[0]}", f"--connections={number}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          preexec_fn=at.as_load) as client:
        said = client.stdout.readline()
        resident = contender.processes[0].memory()
        _, complaint = client.communicate()
    if said != b"ready\n" or client.returncode:
        raise Failed(f"{number} connections: {complaint.decode().strip()}")
    return resident


ALL = [
    proxying("start", "start-up: from the start of the process to its first answer", start_up, plain, EVERYONE, (),
             warm=False),
    proxying("idle", "idle HTTPS connections", idle, secure, EVERYONE, ("openssl",), runs=2, warm=False),
]
