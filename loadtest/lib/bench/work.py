"""What every proxy of a scenario is given to do, and what comes of it."""

import dataclasses

from . import lab


@dataclasses.dataclass
class Work:
    """The task: equal for all, and each writes it in its own way."""
    backends: list            # (address, port) of each endpoint
    protocol: str = "http"    # of the backends: http, or grpc (HTTP/2 without TLS)
    tls: bool = False         # whether clients come by HTTPS
    features: bool = True     # access log to a file, health checks, forwarding headers, a request's name
    interval: int = 1         # of the health checks, in seconds
    routes: tuple = ()        # path prefixes, beside the rest


@dataclasses.dataclass
class Contender:
    """A proxy that runs: where it is reached, and whose time counts."""
    name: str
    address: str
    processes: list
    mesh: object = None       # ours: who is told of changes

    def url(self, path="/1k"):
        """Its plain HTTP."""
        return f"http://{self.address}:{lab.HTTP}{path}"

    def cpu(self):
        """Of each of its processes, in nanoseconds."""
        return [process.cpu() for process in self.processes]

    def check(self):
        """Fails when one has ended."""
        for process in self.processes:
            process.check()

    def peak(self):
        """Of all of them, in bytes."""
        return sum(process.peak() for process in self.processes)
