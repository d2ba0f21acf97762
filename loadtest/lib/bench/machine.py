"""The machine, in words."""

import os
import pathlib
import platform


def described(tools):
    """Its processor, cores, kernel, and the versions of everything that took part."""
    return {
        "cpu": field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory": f"{int(field('/proc/meminfo', 'MemTotal').split()[0]) * 1024 / 1e9:.0f} GB",
        "kernel": platform.release(),
        "versions": tools.versions(),
    }


def field(path, name):
    """The value of the first line of that name."""
    lines = pathlib.Path(path).read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "unknown")


def markdown(machine):
    """A paragraph of it."""
    versions = ", ".join(f"{name} {told}" for name, told in machine["versions"].items())
    return (f"{machine['cpu']}, {machine['cores']} cores, {machine['memory']}, Linux {machine['kernel']}. "
            f"One core for the proxy, with one worker; the rest for load and origin.\n\n{versions}.\n")
