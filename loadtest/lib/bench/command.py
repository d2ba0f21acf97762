"""The command line: which scenarios, how often, and where the results go."""

import argparse
import json
import pathlib
import resource
import sys
import time

from . import machine, plot, rounds, table
from .process import Failed
from .scenarios import ALL
from .tools import Tools

FILES = 65_536


def main():
    """Measures; ends with 0 when every row has figures, with 1 when one failed, and with 2 when none was to be had."""
    options = parsed()
    scenarios = chosen(options.scenario)
    tools = Tools()
    tools.build_peers()
    raise_limits()
    skipped = tools.missing({name for scenario in scenarios for name in (*scenario.needs, *scenario.contenders)})
    for line in skipped:
        say(f"SKIPPED  {line}")
    results = []
    for scenario in scenarios:
        if lacking := [name for name in scenario.needs if not tools.has(name)]:
            say(f"SKIPPED  {scenario.name}: needs {', '.join(lacking)}")
            continue
        results.append(one(scenario, tools, options))
        write(options.out, results, skipped, tools, options)
    say(f"results: {options.out}")
    sys.exit(2 if not results else any(result["failures"] for result in results))


def parsed():
    """The flags."""
    parser = argparse.ArgumentParser(prog="loadtest/bench", description="Tombolo and its peers side by side.")
    parser.add_argument("scenario", nargs="*", help="names, or beginnings of names: " + ", ".join(
        scenario.name for scenario in ALL) + "; all unless given")
    parser.add_argument("--runs", type=int, default=7, help="rounds after the warm-up (7)")
    parser.add_argument("--seconds", type=int, default=3, help="the length of one measurement (3)")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between two (0.2)")
    parser.add_argument("--net", type=int, default=60, help="all listens in 127.NET.0.0/16 (60)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("bench-results"),
                        help="directory of the results (bench-results)")
    parser.add_argument("--before", type=pathlib.Path, metavar="FILE",
                        help="another binary of Tombolo's, which gets a row of its own: what did a change bring?")
    parser.add_argument("--only", metavar="PEER,…", help="beside Tombolo only the rows whose names begin so")
    parser.add_argument("--quick", action="store_true", help="one round of one second: to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.runs, options.seconds = 1, 1
    return options


def raise_limits():
    """Every process of a run may open as many files as 10,000 connections need on both sides, where that is allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(FILES, hard)))
    except ValueError:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def chosen(names):
    """The scenarios that are meant."""
    for name in names:
        if not any(scenario.name.startswith(name) for scenario in ALL):
            sys.exit(f"no scenario is named {name}: there are {', '.join(scenario.name for scenario in ALL)}")
    return [scenario for scenario in ALL if not names or any(scenario.name.startswith(name) for name in names)]


def one(scenario, tools, options):
    """Measures a scenario and prints its table."""
    began = time.monotonic()
    try:
        rows = rounds.measure(scenario, tools, options, tell=progress)
    except Failed as failure:
        rows = rounds.Rows({}, {"all": failure})
    progress("")
    made = table.rows(scenario, rows.figures)
    print(f"\n{scenario.title} ({scenario.name}, {time.monotonic() - began:.0f} s)", flush=True)
    if made:
        print(table.text(made), flush=True)
    for name, why in rows.failures.items():
        print(f"FAILED  {name}: {why}", flush=True)
    return {"name": scenario.name, "title": scenario.title, "figures": rows.figures, "table": made,
            "failures": {name: str(why) for name, why in rows.failures.items()}}


def write(folder, results, skipped, tools, options):
    """Raw figures, tables, plot; and what is not in them."""
    folder.mkdir(parents=True, exist_ok=True)
    run = {"date": time.strftime("%Y-%m-%d"), "runs": options.runs, "seconds": options.seconds,
           "machine": machine.described(tools), "skipped": skipped, "scenarios": results}
    (folder / "results.json").write_text(json.dumps(run, indent=1))
    (folder / "results.md").write_text(markdown(run))
    (folder / "results.svg").write_text(plot.svg(results))


def markdown(run):
    """The tables, under the machine's name."""
    results = run["scenarios"]
    intro = f"{run['date']}, medians of {run['runs']} rounds of {run['seconds']} s, taken in turn.\n"
    tables = [f"### {result['title']}\n\n{table.markdown(result['table'])}\n"
              for result in results if result["figures"]]
    failed = [f"Failed: {result['name']}, {name}\n" for result in results for name in result["failures"]]
    skipped = [f"Skipped: {line}\n" for line in run["skipped"]]
    return "\n".join([intro, machine.markdown(run["machine"]), *tables, *failed, *skipped])


def say(line):
    """To people."""
    print(line, file=sys.stderr, flush=True)


def progress(line):
    """The line that changes."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
