#!/usr/bin/env python3
"""Draws docs/architecture.svg: the crates, the wings inside them, and who imports whom.

    scripts/architecture.py           writes the picture
    scripts/architecture.py --check   fails if the picture is not up to date, or if docs/architecture.md names a function
                                      that is not in its file

The crates and their wings are read from the tables CRATES, LATER and WINGS of tests/tidy.rs, the imports from each
Cargo.toml, and the description of a wing from the section "Layout" of its crate's lib.rs. The positions of the crates
are decided here, in `picture`. An import that follows from others is not drawn, so that there are few arrows.

Left out: imports between the files of a crate, and dependencies of tests.
"""

import html
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
PAGE = PICTURE.with_suffix(".md")

WIDTH, EDGE, GAP = 900, 24, 34
# The distance of boxes from the frame around them, and from each other inside it.
PAD, GUTTER = 10, 22
HEAD, LINE = 30, 15.5
# The size of each style of text, and the mean width of its characters in a wide font, so that no text leaves its box.
SIZES = {"name": 13, "wing": 11, "told": 11}
WIDTHS = {"name": 8.1, "wing": 6.7, "told": 6.1}

FONTS = (
    "text{font-family:system-ui,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}"
    ".name{font-weight:600}.wing{font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}"
    + "".join(f".{style}{{font-size:{size}px}}" for style, size in SIZES.items())
    + ".halo,.arrow,.frame{fill:none}.halo{stroke-width:7}.arrow{stroke-width:1.6;marker-end:url(#head)}"
    ".frame{stroke-dasharray:5 4}"
)
# For each kind of crate: the fill and the line of its box, on a light page and on a dark one.
KINDS = {
    "program": ("#e4eefb", "#3a76b8", "#1b2c40", "#5b9be0"),
    "engine": ("#fdf1df", "#c17f1e", "#38290f", "#d99a3d"),
    "plain": ("#f3f5f7", "#8a939c", "#262c33", "#7d8792"),
}
KIND_OF = {"cli": "program", "compute-agent": "program", "scheduler": "program"} | dict.fromkeys(
    ("fleet-documents", "host-manager", "filter-scheduler"), "engine"
)
LEGEND = (
    ("program", "the programs"),
    ("engine", "the engine, which has no clock and no I/O and waits for nothing"),
    ("plain", "what they are built from"),
    ("arrow", "imports; what follows from other arrows is not drawn"),
    ("wing", "a wing of the crate; it imports only from wings that stand after it"),
)
# The crates that both daemons use directly. One arrow of each daemon leads to the frame around them.
SHARED = ("service", "periodic-task", "rpcapi")


class Fault(Exception):
    """What is wrong, and what to do about it."""


def table(text, name):
    """The entries of a table of tests/tidy.rs, as text without remarks."""
    found = re.search(rf"^const {name}: .*?= &\[(.*?)\];", text, re.S | re.M)
    if not found:
        raise Fault(f"tests/tidy.rs has no table {name}")
    return re.sub(r"//.*", "", found[1])


def read_house():
    """{crate: [wing, ...], bottom up} of every crate that exists, in the order of CRATES."""
    text = (ROOT / "tests" / "tidy.rs").read_text()
    crates = re.findall(r'\(\s*"([\w-]+)",\s*Uses::', table(text, "CRATES"))
    later = re.findall(r'"([\w-]+)"', table(text, "LATER"))
    wings = {
        crate: re.findall(r"[\w/]+", names)
        for crate, names in re.findall(r'\(\s*"([\w-]+)",\s*"([^"]*)"', table(text, "WINGS"))
    }
    crates = [crate for crate in crates if crate not in later]
    if missing := set(crates) - set(wings):
        raise Fault(f"{', '.join(sorted(missing))}: no wings in WINGS of tests/tidy.rs")
    return {crate: wings[crate] for crate in crates}


def read_imports(crates):
    """{crate: crates that it imports}, without those that follow from the others."""
    imports = {}
    for crate in crates:
        manifest = (ROOT / "crates" / crate / "Cargo.toml").read_text()
        section = re.search(r"^\[dependencies\]\n(.*?)(^\[|\Z)", manifest, re.S | re.M)
        imports[crate] = set(re.findall(r"^novella-([\w-]+)", section[1] if section else "", re.M))

    def reached(crate):
        return imports[crate].union(*(reached(below) for below in imports[crate]))

    return {
        crate: below - set().union(*(reached(other) for other in below)) for crate, below in imports.items()
    }


def read_layout(crate):
    """{wing: what it is}, as far as the section "Layout" of the crate's lib.rs says it."""
    layout = (ROOT / "crates" / crate / "src" / "lib.rs").read_text().partition("# Layout")[2]
    told = {}
    for item in re.findall(r"^//! - (.*(?:\n//!   .*)*)", layout, re.M):
        item = re.sub(r"\n//!  +", " ", item)
        # A link may stand around a name: [`env`](mod@env).
        names, _, words = re.sub(r"\]\([^)]*\)|[\[\]]", "", item).partition(": ")
        names = re.findall(r"`([\w/]+)`", names)
        words = words.replace("`", "").rstrip(".").partition(": ")[0]
        parts = words.split("; ")
        told |= dict(zip(names, parts if len(parts) >= len(names) else [words] * len(names)))
    return told


def wrap(words, room, between=" "):
    """Lines of at most `room` characters."""
    lines = [""]
    for word in words:
        longer = lines[-1] + between + word if lines[-1] else word
        if len(longer) > room and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


class Box:
    """A crate in the picture: its texts and its position."""

    def __init__(self, crate, wings, x, width, flowing):
        self.crate, self.x, self.width, self.y = crate, x, width, 0
        self.kind = KIND_OF.get(crate, "plain")
        self.texts = []
        y = HEAD + 12
        told = read_layout(crate) if self.kind == "engine" else {}
        # The importing wing is above the imported one, as it is with crates.
        wings = wings[::-1]
        if flowing:
            for line in wrap(wings, (width - 24) / WIDTHS["wing"], "  "):
                self.texts.append((12, y, "wing", line))
                y += LINE
        else:
            indent = 24 + max(len(wing) for wing in wings) * WIDTHS["wing"]
            room = (width - indent - 10) / WIDTHS["told"]
            for wing in wings:
                self.texts.append((12, y, "wing", wing))
                for line in wrap(told.get(wing, "").split(), room):
                    self.texts.append((indent, y, "told", line))
                    y += LINE
        self.height = y - LINE + 12
        for at, _, style, line in [(12, 0, "name", crate), *self.texts]:
            if line and at + len(line) * WIDTHS[style] + 8 > width:
                raise Fault(f"`{line}` does not fit into the box of {crate}; place it wider in scripts/architecture.py")

    @property
    def foot(self):
        """The lower edge."""
        return self.y + self.height

    @property
    def end(self):
        """The right edge."""
        return self.x + self.width

    @property
    def middle(self):
        """The middle from left to right."""
        return self.x + self.width / 2

    def svg(self):
        """The box with its texts."""
        out = [
            f'<rect class="{self.kind}" x="{self.x:g}" y="{self.y:g}" width="{self.width:g}"'
            f' height="{self.height:g}" rx="6"/>',
            f'<text class="name" x="{self.x + 12:g}" y="{self.y + 20:g}">{self.crate}</text>',
        ]
        out += [
            f'<text class="{style}" x="{self.x + x:g}" y="{self.y + y:g}">{html.escape(line)}</text>'
            for x, y, style, line in self.texts
            if line
        ]
        return out


def stack(boxes, y, gap=GAP):
    """Places boxes one below the other. Returns the lower edge of the last one."""
    for box in boxes:
        box.y = y
        y = box.foot + gap
    return y - gap


def colours(dark):
    """The style rules of a light page or of a dark one."""
    light = ("#ffffff", "#1c2126", "#5a636c", "#5d6771")
    page, ink, soft, line = ("#14181d", "#e6e9ec", "#a9b2bb", "#97a1ab") if dark else light
    rules = [
        f".page{{fill:{page}}}.name,.wing{{fill:{ink}}}.told{{fill:{soft}}}",
        f".halo{{stroke:{page}}}.arrow,.frame{{stroke:{line}}}.head{{fill:{line}}}",
    ]
    rules += [f".{kind}{{fill:{of[2 * dark]};stroke:{of[2 * dark + 1]}}}" for kind, of in KINDS.items()]
    return "".join(rules)


def legend(x, y, width):
    """The key to the signs: its lower edge, and the SVG."""
    out = []
    for sign, words in LEGEND:
        if sign == "arrow":
            out.append(f'<path class="arrow" d="M{x:g} {y - 4:g}h26"/>')
        elif sign == "wing":
            out.append(f'<text class="wing" x="{x:g}" y="{y:g}">wing</text>')
        else:
            out.append(f'<rect class="{sign}" x="{x + 0.5:g}" y="{y - 10:g}" width="26" height="12" rx="3"/>')
        for line in wrap(words.split(), (width - 38) / WIDTHS["told"]):
            out.append(f'<text class="told" x="{x + 38:g}" y="{y:g}">{line}</text>')
            y += LINE
        y += 6
    return y, out


def picture():
    """The text of the SVG."""
    house = read_house()
    imports = read_imports(house)
    drawn = set()
    boxes = {}

    def put(crate, x, end, flowing=False):
        boxes[crate] = Box(crate, house[crate], x, end - x, flowing)
        return boxes[crate]

    # The columns: the driver, what the daemons share (its lower part in two halves), the engine.
    virt_end, frame_x, half, frame_end, engine_x, last = 138, 154, 347, 488, 508, WIDTH - EDGE
    daemons = 312
    cli = put("cli", EDGE, last, flowing=True)
    agent = put("compute-agent", EDGE, daemons - GUTTER / 2, flowing=True)
    scheduler = put("scheduler", daemons + GUTTER / 2, last, flowing=True)
    virt = put("virt", EDGE, virt_end)
    service = put("service", frame_x + PAD, frame_end - PAD, flowing=True)
    timer = put("periodic-task", frame_x + PAD, half - GUTTER / 2)
    rpcapi = put("rpcapi", half + GUTTER / 2, frame_end - PAD)
    macros = put("periodic-task-macros", frame_x, half - GUTTER / 2)
    nova = put("nova-objects", frame_x, half - GUTTER / 2)
    messaging = put("messaging", half + GUTTER / 2, frame_end)
    engines = [put(crate, engine_x, last) for crate in ("fleet-documents", "host-manager", "filter-scheduler")]
    resources = put("resources", engine_x, last, flowing=True)
    objects = put("objects", EDGE, last, flowing=True)
    if missing := set(house) - set(boxes):
        raise Fault(f"{', '.join(sorted(missing))}: give it a place in `picture` of scripts/architecture.py")

    y = stack([cli], EDGE) + GAP
    agent.y = scheduler.y = y
    agent.height = scheduler.height = max(agent.height, scheduler.height)
    y = agent.foot + GAP
    virt.y = y
    stack([service], y + PAD)
    timer.y = rpcapi.y = service.foot + PAD
    timer.height = rpcapi.height = max(timer.height, rpcapi.height)
    frame_foot = rpcapi.foot + PAD
    messaging.y = frame_foot + GAP
    stack([macros, nova], messaging.y)
    foot = stack([*engines, resources], y)
    # The key to the signs is where there is room, between two arrows.
    legend_x, legend_y = nova.middle + GUTTER, messaging.foot + 2 * GAP
    below = max(nova.foot, legend(legend_x, legend_y, engine_x - legend_x - GUTTER)[0]) + GAP
    resources.y = max(resources.y, below - resources.height / 2)
    foot = max(foot, resources.foot)
    stack([objects], foot + GAP)
    height = objects.foot + EDGE

    arrows = []

    def arrow(importer, imported, *points):
        if imported not in imports[importer]:
            raise Fault(f"{importer} no longer imports {imported}; remove the arrow in scripts/architecture.py")
        drawn.add((importer, imported))
        if points:
            path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
            arrows.append(f'<path class="halo" d="{path}"/><path class="arrow" d="{path}"/>')

    def down(importer, imported, x):
        arrow(importer, imported, (x, boxes[importer].foot), (x, boxes[imported].y - 1))

    down("cli", "compute-agent", agent.middle)
    down("cli", "scheduler", scheduler.middle)
    down("compute-agent", "virt", virt.middle)
    for daemon, x in (("compute-agent", (frame_x + agent.end) / 2), ("scheduler", (scheduler.x + frame_end) / 2)):
        arrow(daemon, SHARED[0], (x, boxes[daemon].foot), (x, y - 1))
        for crate in SHARED[1:]:
            arrow(daemon, crate)
    down("scheduler", "fleet-documents", engines[0].middle)
    down("fleet-documents", "host-manager", engines[0].middle)
    down("host-manager", "filter-scheduler", engines[0].middle)
    down("filter-scheduler", "resources", engines[0].middle)
    down("resources", "objects", engines[0].middle)
    down("periodic-task", "periodic-task-macros", timer.middle)
    down("rpcapi", "messaging", rpcapi.middle)
    turn, side = frame_foot + GAP / 2, nova.y + 20
    arrow(
        "rpcapi", "nova-objects",
        (rpcapi.x + 14, rpcapi.foot), (rpcapi.x + 14, turn), (half, turn), (half, side), (nova.end + 1, side),
    )
    down("nova-objects", "objects", nova.middle)
    side = resources.y + resources.height / 2
    arrow("virt", "resources", (virt.middle, virt.foot), (virt.middle, side), (resources.x - 1, side))
    if missing := {(crate, below) for crate in imports for below in imports[crate]} - drawn:
        told = ", ".join(f"{crate} imports {below}" for crate, below in sorted(missing))
        raise Fault(f"{told}: draw the arrow in `picture` of scripts/architecture.py")

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:g}" viewBox="0 0 {WIDTH} {height:g}"'
        ' role="img" aria-label="The crates of novella, their wings, and who imports whom">',
        "<!-- Written by scripts/architecture.py. -->",
        f"<style>{FONTS}{colours(False)}@media(prefers-color-scheme:dark){{{colours(True)}}}</style>",
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        '<path class="head" d="M0 0L8 4L0 8z"/></marker>',
        f'<rect class="page" width="{WIDTH}" height="{height:g}" rx="10"/>',
        f'<rect class="frame" x="{frame_x:g}" y="{y:g}" width="{frame_end - frame_x:g}"'
        f' height="{frame_foot - y:g}" rx="8"/>',
        *arrows,
    ]
    for box in boxes.values():
        out += box.svg()
    out += legend(legend_x, legend_y, engine_x - legend_x - GUTTER)[1]
    return "\n".join([*out, "</svg>", ""])


def check_page():
    """Fails if the page names a function for a file that does not have it."""
    for path, functions in re.findall(r"^\| \d+ \| `([^`]+)` \| ([^|]+) \|", PAGE.read_text(), re.M):
        code = (ROOT / path).read_text() if (ROOT / path).exists() else ""
        for function in re.findall(r"`(\w+)`", functions):
            if not re.search(rf"\bfn {function}\b", code):
                raise Fault(f"{path} has no function {function}; correct docs/{PAGE.name}")


def main(arguments):
    """Writes the picture, or checks it and the page."""
    if arguments not in ([], ["--check"]):
        sys.exit(__doc__)
    try:
        text = picture()
        check_page()
    except Fault as fault:
        sys.exit(str(fault))
    if not arguments:
        PICTURE.write_text(text)
    elif not PICTURE.exists() or PICTURE.read_text() != text:
        sys.exit(f"docs/{PICTURE.name} is not up to date; run scripts/architecture.py")


if __name__ == "__main__":
    main(sys.argv[1:])
