"""Measures: a warm-up, then rounds in which every contender has one turn, each round beginning with another."""

import time

from .lab import Lab
from .process import Failed


def measure(scenario, tools, options, tell):
    """The rounds' figures by contender; and why a row is missing, by contender. A row that failed once has failed."""
    figures, failures = {}, {}
    with Lab(tools, options.net, options.seconds) as at:
        contenders = []
        for name, start in scenario.starters(at).items():
            try:
                contenders.append(start())
            except Failed as failure:
                failures[name] = str(failure)
        # A proxy that has just found its backends healthy should not meet its first load in the first round.
        for turn in range(-1, min(options.runs, scenario.runs)):
            for contender in rotated(contenders, turn):
                if contender.name in failures:
                    continue
                tell(f"{scenario.name}: {contender.name}, " + (f"round {turn + 1} of {options.runs}" if turn >= 0 else
                                                               "warm-up"))
                try:
                    found = scenario.measure(at, contender)
                except Failed as failure:
                    failures[contender.name] = str(failure)
                    figures.pop(contender.name, None)
                    continue
                if turn >= 0:
                    figures.setdefault(contender.name, []).append(found)
                time.sleep(options.pause)
    order = [contender.name for contender in contenders if contender.name in figures]
    return {name: figures[name] for name in order}, failures


def rotated(contenders, turn):
    """Nobody is always first, or always after the same."""
    first = turn % len(contenders)
    return contenders[first:] + contenders[:first]
