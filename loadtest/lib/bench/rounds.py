"""Measures: a warm-up, then rounds in which every contender has one turn, each round beginning with another."""

import dataclasses
import time

from .lab import Lab
from .process import Failed
from .scenario import OURS

BEFORE = "before"


@dataclasses.dataclass
class Rows:
    """The rounds' figures by contender; and why a row is missing, by contender. A row that failed once has failed."""
    figures: dict
    failures: dict

    def fail(self, name, failure):
        """That one is out."""
        self.failures[name] = str(failure)
        self.figures.pop(name, None)


def measure(scenario, tools, options, tell):
    """One scenario, from its start to its end."""
    rows, runs = Rows({}, {}), min(options.runs, scenario.runs)
    with Lab(tools, options.net, options.seconds) as at:
        starters = meant(scenario.starters(at), options.only)
        if options.before and OURS in starters:
            starters = {OURS: starters[OURS], BEFORE: lambda: before(at, starters[OURS], options.before), **starters}
        contenders = started(starters, rows)
        for number in range(-1 if scenario.warm else 0, runs):
            for contender in rotated(contenders, number):
                if contender.name in rows.failures:
                    continue
                tell(f"{scenario.name}: {contender.name}, round {number + 1} of {runs}")
                turn(scenario, at, contender, rows, counts=number >= 0)
                time.sleep(options.pause)
    order = [contender.name for contender in contenders if contender.name in rows.figures]
    return Rows({name: rows.figures[name] for name in order}, rows.failures)


def meant(starters, only):
    """Ours, and those of the peers that were asked for: all, unless some are named."""
    names = only.split(",") if only else [""]
    return {row: start for row, start in starters.items() if row.startswith((OURS, *names))}


def before(at, start, binary):
    """Starts our own row's, of another binary."""
    with at.instead(OURS, binary, BEFORE):
        contender = start()
    contender.name = BEFORE
    return contender


def started(starters, rows):
    """Those contenders that start."""
    contenders = []
    for name, start in starters.items():
        try:
            contenders.append(start())
        except (Failed, OSError) as failure:
            rows.fail(name, failure)
    return contenders


def turn(scenario, at, contender, rows, counts):
    """One contender's part of a round."""
    try:
        found = scenario.measure(at, contender)
    except (Failed, OSError) as failure:
        rows.fail(contender.name, failure)
        return
    if counts:
        rows.figures.setdefault(contender.name, []).append(found)


def rotated(contenders, number):
    """Nobody is always first, or always after the same."""
    first = number % max(len(contenders), 1)
    return contenders[first:] + contenders[:first]
