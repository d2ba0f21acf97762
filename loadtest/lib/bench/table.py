"""Tables: medians, their spread, and ratios of ours to each peer's, paired by round."""

import statistics

OURS = "tombolo"


def rows(figures):
    """The heads of the columns, then a row of texts for each contender. Ours has nobody to be compared to."""
    columns = list(dict.fromkeys(column for rounds in figures.values() for each in rounds for column in each))
    if not columns:
        return []
    first, *others = columns
    ours = [each[first] for each in figures.get(OURS, [])]
    made = [["", first, "min–max", "tombolo is ×", "min–max", *others]]
    for name, rounds in figures.items():
        values = [each[first] for each in rounds]
        ratio = ["", ""]
        if ours and name != OURS:
            ratio = told([one / other for one, other in zip(ours, values)], "{:.2f}")
        made.append([name, *told(values), *ratio, *(told([each[column] for each in rounds if column in each])[0]
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
