"""What a scenario is, and the two kinds that most are."""

import dataclasses
import functools
import typing

from . import load, peers

CPU, RATE, P99, PEAK = "CPU µs/request", "requests/s", "p99 ms", "peak MB"
OURS = "tombolo"


@dataclasses.dataclass
class Scenario:
    """One table. `starters(lab)` gives by row what starts its contender; `measure(lab, contender)` one round's figures
    of one, by column. The first column is what ratios are made of; less is better there."""
    name: str
    title: str
    starters: typing.Callable
    measure: typing.Callable
    needs: tuple = ()         # programs without which it cannot be
    contenders: tuple = ()    # proxies; who is not installed is left out
    runs: int = 1_000         # rounds at the most, where more would tell nothing new
    warm: bool = True         # whether a round that does not count comes first
    # What is divided by what, by the names of rows: ours by each peer's.
    ratio: str = "tombolo is ×"
    ratio_of: typing.Callable = lambda row: (OURS, row)


def proxying(name, title, measure, work, contenders, needs, **more):
    """One proxy before one origin."""
    def starters(at):
        at.origin()
        return every(contenders, at, work(at))
    return Scenario(name, title, starters, measure, needs, contenders, **more)


def every(names, at, work):
    """What starts each of those proxies that are installed."""
    return {name: functools.partial(peers.ALL[name].start, at, work) for name in names if at.tools.has(name)}


def closed_loop(call):
    """Figures of as many requests as a proxy can answer. `call(lab, contender)` makes them."""
    def measure(at, contender):
        answers, spent = spending(contender, lambda: call(at, contender))
        return {**per_request(spent, answers.requests), RATE: answers.requests / answers.seconds,
                PEAK: contender.peak() / 1e6}
    return measure


def open_loop(rate, first=CPU):
    """Figures of so many requests a second, however slow the answers are; a time counts from when a request was due.
    Which of them is the first column can be chosen."""
    def measure(at, contender):
        asked = rate(at)
        said, spent = spending(contender, lambda: load.open_loop(at, contender.address, asked))
        found = {**per_request(spent, said["requests"]), P99: said["p99"] / 1000, "p50 ms": said["p50"] / 1000,
                 "max ms": said["max"] / 1000, "asked/s": asked, PEAK: contender.peak() / 1e6}
        return {first: found[first], **found}
    return measure


def spending(contender, call):
    """What the call gives, and what it cost each of the contender's processes, in nanoseconds."""
    before = contender.cpu()
    given = call()
    spent = [after - start for start, after in zip(before, contender.cpu())]
    contender.check()
    return given, spent


def per_request(spent, requests):
    """The CPU of all; of a pair, also each one's."""
    each = [nanoseconds / 1000 / requests for nanoseconds in spent]
    parts = {f"the {which}": cpu for which, cpu in zip(("first", "second"), each)} if len(each) > 1 else {}
    return {CPU: sum(each), **parts}
