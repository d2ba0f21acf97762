"""A child process, and what the kernel counts of it and its children."""

import ctypes
import os
import pathlib
import signal
import subprocess
import time
import urllib.error
import urllib.request

PROC = pathlib.Path("/proc")
PR_SET_PDEATHSIG = 1
# Programs that only start another, as packages of Python do.
STARTERS = ("python", "bash", "sh", "dash")
_LIBC = ctypes.CDLL(None)


class Failed(Exception):
    """Something that the benchmark needs did not work; the text is for people."""


class Process:
    """One that runs until it is stopped, or until the benchmark ends, however it ends."""

    def __init__(self, name, command, log, cores, env=None):
        self.name, self.log, self.cores = name, pathlib.Path(log), cores
        self.command, self.env = [str(word) for word in command], {**os.environ, **(env or {})}
        self.again()

    def again(self):
        """Starts it, for the first time or after it was stopped."""
        def prepare():
            _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.sched_setaffinity(0, self.cores)

        with open(self.log, "ab") as out:
            self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                          env=self.env, preexec_fn=prepare)

    def pids(self):
        """Its own and its descendants', without those that only started them."""
        family = descendants(self.child.pid)
        return [pid for pid in family if len(family) == 1 or not program(pid).startswith(STARTERS)]

    def cpu(self):
        """User and system time of all of it, in nanoseconds."""
        return sum(run_time(pid) for pid in self.pids())

    def peak(self):
        """The most that was ever resident, in bytes."""
        return sum(status(pid, "VmHWM") for pid in self.pids())

    def memory(self):
        """What is resident, in bytes."""
        return sum(status(pid, "VmRSS") for pid in self.pids())

    def check(self):
        """Fails when it has ended."""
        if self.child.poll() is not None:
            last = self.log.read_text(errors="replace").strip().splitlines()[-5:]
            raise Failed(f"{self.name} ended with {self.child.returncode}:\n  " + "\n  ".join(last))

    def until(self, ready, seconds=30):
        """Waits until that is so."""
        deadline = time.monotonic() + seconds
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise Failed(f"{self.name} was not ready after {seconds} s; its log: {self.log}")
            time.sleep(0.005)

    def stop(self):
        """Ends it: politely, then by force."""
        family = descendants(self.child.pid)
        self.child.terminate()
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        for pid in family[1:]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def descendants(pid):
    """The process and all below it."""
    parents = {}
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(stat.read_text().rsplit(")", 1)[1].split()[1]), []).append(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    family = [pid]
    for each in family:
        family += parents.get(each, [])
    return family


def program(pid):
    """The name of the file that it runs."""
    return os.path.basename(os.readlink(f"/proc/{pid}/exe"))


def run_time(pid):
    """Of all its threads, also those that ended, in nanoseconds: its CPU clock (clock_getcpuclockid(3))."""
    return time.clock_gettime_ns(~pid << 3 | 2)


def status(pid, field):
    """A size out of its status, in bytes."""
    lines = (PROC / str(pid) / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def answers(url, host=None):
    """Whether a GET brings 200 now."""
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False
