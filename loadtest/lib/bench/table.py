"""Tables: medians, their spread, and ratios of ours to each peer's, paired by round."""

import statistics


def rows(scenario, figures):
    """The heads of the columns, then a row of texts for each contender. A row has no ratio to itself."""
    columns = list(dict.fromkeys(column for rounds in figures.values() for each in rounds for column in each))
    if not columns:
        return []
    first, *others = columns
    values = {name: [each[first] for each in rounds] for name, rounds in figures.items()}
    made = [["", first, "min–max", scenario.ratio, "min–max", *others]]
    for name, rounds in figures.items():
        above, below = scenario.ratio_of(name)
        pairs = zip(values.get(above, []), values.get(below, [])) if above != below else []
        ratio = told([one / other for one, other in pairs if other], "{:.2f}")
        made.append([name, *told(values[name]), *ratio, *(told([each[column] for each in rounds if column in each])[0]
                                                          for column in others)])
    return made


def told(values, form=None):
    """A median and its spread."""
    if not values:
        return ["", ""]
    return [number(statistics.median(values), form), f"{number(min(values), form)}–{number(max(values), form)}"]


def number(value, form=None):
    """Three digits that count."""
    if form:
        return form.format(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def text(made):
    """For a terminal."""
    widths = [max(len(row[at]) for row in made) for at in range(len(made[0]))]
    return "\n".join("  ".join(cell.ljust(width) if at == 0 else cell.rjust(width)
                               for at, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in made)


def markdown(made):
    """For a README."""
    head, *rest = made
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rest])
