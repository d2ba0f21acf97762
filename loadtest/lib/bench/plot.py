"""A plot of the first column of each scenario: one bar a contender, at its median, with a line from least to most."""

import statistics
from xml.sax.saxutils import escape

BAR, GAP, LEFT, WIDTH, RIGHT = 18, 6, 180, 560, 60
OURS, THEIRS, SPREAD = "#0b7285", "#adb5bd", "#212529"
STYLE = "<style>text{font:13px sans-serif;fill:#212529}.title{font-weight:bold}</style>"


def svg(results):
    """All scenarios, one below the other."""
    parts, top = [], 10
    for result in results:
        if result["figures"]:
            drawn, top = panel(result, top)
            parts += drawn
    size = f'width="{LEFT + WIDTH + RIGHT}" height="{top}"'
    parts = "\n".join([STYLE, f'<rect {size} fill="white"/>', *parts])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{parts}\n</svg>\n'


def panel(result, top):
    """One scenario's bars, and where the next begins."""
    column = result["table"][0][1]
    rounds = {name: [each[column] for each in figures] for name, figures in result["figures"].items()}
    most = max(max(values) for values in rounds.values()) or 1
    title = escape(f"{result['title']}: {column}")
    parts = [f'<text class="title" x="{LEFT}" y="{top + 13}">{title}</text>']
    top += 24
    for name, values in rounds.items():
        parts += bar(name, values, WIDTH / most, top)
        top += BAR + GAP
    return parts, top + 16


def bar(name, values, scale, top):
    """One contender's: name, bar, spread, median."""
    median, least, most = (LEFT + pick(values) * scale for pick in (statistics.median, min, max))
    fill, middle, line = OURS if name.startswith("tombolo") else THEIRS, top + BAR / 2, top + 14
    return [
        f'<text x="{LEFT - 8}" y="{line}" text-anchor="end">{escape(name)}</text>',
        f'<rect x="{LEFT}" y="{top}" width="{median - LEFT:.1f}" height="{BAR}" fill="{fill}"/>',
        f'<line x1="{least:.1f}" x2="{most:.1f}" y1="{middle}" y2="{middle}" stroke="{SPREAD}" stroke-width="2"/>',
        f'<text x="{most + 6:.1f}" y="{line}">{statistics.median(values):.3g}</text>',
    ]
