"""Line plots with logarithmic axes, as SVG text.

There is no plot library, because a plot of five lines needs none, and because the file is read as text in a diff. Values must
be positive. Left out: linear axes, legends beside the lines' own names.
"""

import math

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 84, 170, 48, 56
COLOURS = ("#1f5fa8", "#4d9de0", "#b3541e", "#e09f3e", "#666666")


def decades(values):
    """The powers of ten that enclose the values."""
    return range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)


def number(power):
    """A power of ten, written out."""
    return f"{10**power:,}" if power >= 0 else f"{10.0**power:g}"


def loglog(title, across, up, series):
    """The SVG of {name: [(x, y), ...]}."""
    xs = decades([x for points in series.values() for x, _ in points])
    ys = decades([y for points in series.values() for _, y in points])

    def place(value, steps, start, length):
        return start + length * (math.log10(value) - steps[0]) / (len(steps) - 1)

    def at(x, y):
        return (
            place(x, xs, LEFT, WIDTH - LEFT - RIGHT),
            place(y, ys, HEIGHT - BOTTOM, -(HEIGHT - TOP - BOTTOM)),
        )

    def text(x, y, words, anchor="middle", colour="#222222", more=""):
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{more}>{words}</text>'

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        text(LEFT, 26, title, "start", more=' font-size="15"'),
    ]
    low, high = 10.0 ** ys[0], 10.0 ** ys[-1]
    for power in xs:
        (x, top), (_, foot) = at(10.0**power, high), at(10.0**power, low)
        out.append(f'<path d="M{x:.1f} {top:.1f}V{foot:.1f}" stroke="#dddddd"/>')
        out.append(text(x, foot + 18, number(power)))
    first, last = 10.0 ** xs[0], 10.0 ** xs[-1]
    for power in ys:
        (x, y), (end, _) = at(first, 10.0**power), at(last, 10.0**power)
        out.append(f'<path d="M{x:.1f} {y:.1f}H{end:.1f}" stroke="#dddddd"/>')
        out.append(text(x - 8, y + 4, number(power), "end"))
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, across))
    out.append(text(16, TOP - 8, up, "start"))
    lowest = None
    # From the top, so that names that would touch are moved down, each in its line's colour.
    ordered = sorted(series.items(), key=lambda entry: -entry[1][-1][1])
    for (name, points), colour in zip(ordered, COLOURS):
        places = [at(x, y) for x, y in points]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        out.append(f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.extend(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places)
        x, y = places[-1]
        y = y + 4 if lowest is None else max(y + 4, lowest + 15)
        lowest = y
        out.append(text(x + 10, y, name, "start", colour))
    out.append("</svg>")
    return "\n".join(out) + "\n"
