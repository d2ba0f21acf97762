"""A plot of the first column of each scenario: one bar a contender, at its median, with a line from least to most."""

import statistics
from xml.sax.saxutils import escape

BAR, GAP, LEFT, WIDTH, RIGHT = 18, 6, 90, 640, 70
OURS, THEIRS, SPREAD = "#0b7285", "#adb5bd", "#212529"


def svg(results):
    """All scenarios, one below the other."""
    parts, top = [], 10
    for result in results:
        if result["figures"]:
            drawn, top = panel(result, top)
            parts += drawn
    style = "<style>text{font:13px sans-serif;fill:#212529}.t{font-weight:bold}</style>"
    size = f'width="{LEFT + WIDTH + RIGHT}" height="{top}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{style}<rect {size} fill="white"/>' + "".join(parts) + "</svg>\n"


def panel(result, top):
    """One scenario's bars, and where the next begins."""
    rounds = {name: [next(iter(each.values())) for each in figures] for name, figures in result["figures"].items()}
    column = next(iter(next(iter(result["figures"].values()))[0]))
    most = max(max(values) for values in rounds.values()) or 1
    parts = [f'<text class="t" x="{LEFT}" y="{top + 13}">{escape(result["title"])}: {escape(column)}</text>']
    top += 24
    for name, values in rounds.items():
        parts.append(bar(name, values, WIDTH / most, top))
        top += BAR + GAP
    return parts, top + 16


def bar(name, values, scale, top):
    """One contender's."""
    median, middle = statistics.median(values), top + BAR / 2
    fill = OURS if name.startswith("tombolo") else THEIRS
    return (f'<text x="{LEFT - 8}" y="{top + 14}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{LEFT}" y="{top}" width="{median * scale:.1f}" height="{BAR}" fill="{fill}"/>'
            f'<line x1="{LEFT + min(values) * scale:.1f}" x2="{LEFT + max(values) * scale:.1f}" y1="{middle}" y2="{middle}"'
            f' stroke="{SPREAD}" stroke-width="2"/>'
            f'<text x="{LEFT + max(values) * scale + 6:.1f}" y="{top + 14}">{median:.3g}</text>')
