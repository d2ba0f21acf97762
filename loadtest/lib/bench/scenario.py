"""What a scenario is, and the two kinds that most are."""

import dataclasses
import functools
import typing

from . import peers

CPU, RATE, PEAK = "CPU µs/request", "requests/s", "peak MB"
OURS = "tombolo"


@dataclasses.dataclass
class Scenario:
    """One table. `starters(lab)` gives by row what starts its contender; `measure(lab, contender)` one round's figures of
    one, by column. The first column is what ratios are made of; less is better there."""
    name: str
    title: str
    starters: typing.Callable
    measure: typing.Callable
    needs: tuple = ()         # programs without which it cannot be
    contenders: tuple = ()    # proxies; who is not installed is left out
    runs: int = 1_000         # rounds at the most, where more would tell nothing new
    # What is divided by what, by the names of rows: ours by each peer's.
    ratio: str = "tombolo is ×"
    ratio_of: typing.Callable = lambda row: (OURS, row)


def proxying(name, title, measure, work, contenders, needs, **more):
    """One proxy before one origin."""
    def starters(at):
        at.origin()
        return {peer: functools.partial(peers.ALL[peer].start, at, work(at)) for peer in contenders if at.tools.has(peer)}
    return Scenario(name, title, starters, measure, needs, contenders, **more)


def closed_loop(call):
    """Figures of as many requests as a proxy can answer. `call(lab, contender)` makes them."""
    def measure(at, contender):
        before = contender.cpu()
        answers = call(at, contender)
        spent = [(after - start) / 1000 / answers.requests for start, after in zip(before, contender.cpu())]
        contender.check()
        # Of a pair, also each one's.
        parts = {f"the {which}": cpu for which, cpu in zip(("first", "second"), spent)} if len(spent) > 1 else {}
        return {CPU: sum(spent), **parts, RATE: answers.requests / answers.seconds, PEAK: contender.peak() / 1e6}
    return measure
