"""Where a run happens: addresses, ports, cores, files, and the processes that are to be stopped at its end."""

import contextlib
import os
import pathlib
import socket
import subprocess
import tempfile

from .process import Failed, Process

HTTP, HTTPS, TCP, DNS = 20080, 20443, 20082, 20053
ADMIN, AGENT, API, EAST_WEST = 20770, 20744, 20743, 20745
ORIGIN, ORIGIN_HTTP2, ORIGIN_STREAM, ORIGIN_MANY = 20900, 20901, 20902, 20910
HOST = "bench.example.com"


class Lab:
    """One scenario's surroundings. As a context: at its end everything is stopped and removed."""

    def __init__(self, tools, net, seconds):
        self.tools, self.net, self.seconds = tools, net, seconds
        # A proxy has one core for itself; load and origin share the others.
        *others, last = sorted(os.sched_getaffinity(0))
        self.proxy_cores, self.load_cores = {last}, set(others) or {last}
        # What a scenario keeps from its start to its measurements.
        self.kept = {}
        self.prefix = ""
        self.processes, self._addresses = [], (self.at(0, number) for number in range(11, 250))

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="tombolo-bench-", ignore_cleanup_errors=True)
        self.folder = pathlib.Path(self._folder.name)
        self.folder.chmod(0o755)
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.stop()
        self._folder.cleanup()

    def at(self, third, fourth):
        """A loopback address of this run's."""
        return f"127.{self.net}.{third}.{fourth}"

    @property
    def workload(self):
        """Where a workload of Tombolo's cluster calls from."""
        return self.at(2, 1)

    def address(self):
        """One that nobody has yet, so that all proxies can have the same ports."""
        return next(self._addresses)

    @property
    def origin_http(self):
        """Where the origin speaks HTTP/1.1."""
        return self.at(1, 1), ORIGIN

    @property
    def origin_http2(self):
        """Where it speaks HTTP/2 without TLS."""
        return self.at(1, 1), ORIGIN_HTTP2

    @property
    def origin_stream(self):
        """Where it gives bytes."""
        return self.at(1, 1), ORIGIN_STREAM

    def origin(self):
        """Starts the server behind all proxies."""
        doors = {"http1": self.origin_http, "http2": self.origin_http2, "stream": self.origin_stream}
        flags = [f"--{name}={host}:{port}" for name, (host, port) in doors.items()]
        origin = self.start("origin", [self.tools["origin"], *flags], self.load_cores)
        origin.until(lambda: listens(*self.origin_http))

    def origin_everywhere(self, port):
        """Starts one that speaks HTTP/1.1 on every address, so also on all of 127.0.0.0/8."""
        origin = self.start(f"origin {port}", [self.tools["origin"], f"--http1=0.0.0.0:{port}"], self.load_cores)
        origin.until(lambda: listens(self.at(1, 1), port))

    @contextlib.contextmanager
    def instead(self, tool, path, prefix):
        """While this lasts, another program is started in a tool's place, with directories of its own."""
        usual, self.prefix = self.tools.paths[tool], prefix
        self.tools.paths[tool] = path
        try:
            yield
        finally:
            self.tools.paths[tool], self.prefix = usual, ""

    def path(self, name):
        """A directory for what belongs to that."""
        path = self.folder / "".join(letter if letter.isalnum() else "-" for letter in self.prefix + name)
        path.mkdir(exist_ok=True)
        return path

    def file(self, name, text):
        """Writes a file; its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def start(self, name, command, cores=None, env=None):
        """Starts a process that runs until the end."""
        process = Process(name, command, self.path(name) / "process.log", cores or self.proxy_cores, env)
        self.processes.append(process)
        return process

    def as_load(self):
        """In a child that becomes a load generator: it stays off the proxies' core."""
        os.sched_setaffinity(0, self.load_cores)

    def run(self, command, text=None, env=None, seconds=120):
        """Runs a program to its end, beside the load; its output."""
        try:
            done = subprocess.run([str(word) for word in command], input=text, capture_output=True, text=True,
                                  timeout=seconds, env={**os.environ, **(env or {})},
                                  preexec_fn=self.as_load)
        except subprocess.TimeoutExpired as late:
            raise Failed(f"{' '.join(map(str, command))}: not done after {seconds} s") from late
        if done.returncode:
            raise Failed(f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout


def listens(address, port):
    """Whether somebody takes connections there."""
    try:
        socket.create_connection((address, port), 1).close()
        return True
    except OSError:
        return False
