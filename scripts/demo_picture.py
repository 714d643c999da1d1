#!/usr/bin/env python3
"""Draws docs/demo.svg: the screen of `novella demo`, as the program itself draws it, as an animation.

The demo runs in a pseudo terminal. pyte, a terminal emulator, turns its output into a grid of characters. pyte is fetched
into a separate environment under target/ if this Python does not have it. Each frame is a group of text lines, and a
style sheet shows one group after another.

    scripts/demo_picture.py [--novella target/release/novella] [--out docs/demo.svg]

Left out: anything that a user does not see. The script adds no drawing of its own.
"""

import argparse
import fcntl
import html
import os
import pathlib
import pty
import select
import struct
import subprocess
import sys
import termios
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLUMNS, LINES = 100, 26
SECONDS = 14
FRAMES_PER_SECOND = 1.5
SEED = "7"
CHARACTER, LINE, MARGIN = 7.83, 17, 12
BACKGROUND, FOREGROUND = "#15181e", "#d5d9e0"
# pyte gives the bright colours of the 256-colour palette by their values.
COLOURS = {"default": FOREGROUND, "00ff00": "#7fb069", "ff0000": "#e06c75", "ffff00": "#d9a441", "00ffff": "#56b6c2"}


def with_pyte():
    """Imports pyte, or runs this script again in an environment that has it."""
    try:
        import pyte
    except ImportError:
        environment = ROOT / "target" / "picture-env"
        python = environment / "bin" / "python"
        if sys.executable == str(python):
            raise
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "pyte==0.8.2"], check=True)
        os.execv(python, [str(python), *sys.argv])
    return pyte


def frames(novella):
    """The screens of one run, as grids of (character, colour, is bold)."""
    pyte = with_pyte()
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm-256color", COLORTERM="")
        os.environ.pop("NO_COLOR", None)
        os.execv(novella, [novella, "demo", "--for", f"{SECONDS}s", "--seed", SEED])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    began, taken = time.monotonic(), []
    while True:
        ready, _, _ = select.select([terminal], [], [], 0.05)
        if ready:
            try:
                stream.feed(os.read(terminal, 65536))
            except OSError:  # The program has ended and closed its side.
                break
        elapsed = time.monotonic() - began
        # The first second fills the screen, and the last clears it.
        if 1 + len(taken) / FRAMES_PER_SECOND < elapsed < SECONDS - 0.5:
            taken.append([[cell(screen.buffer[y][x]) for x in range(COLUMNS)] for y in range(LINES)])
    _, status = os.waitpid(child, 0)
    if status != 0 or len(taken) < 2:
        sys.exit(f"{novella} demo ended with {os.waitstatus_to_exitcode(status)} and drew {len(taken)} frames")
    return taken


def cell(character):
    """A character of pyte, its colour in the picture, and whether it is bold."""
    return character.data, COLOURS.get(character.fg, FOREGROUND), character.bold


def line(cells, y):
    """One line of text, with a span for each run of one colour."""
    while cells and cells[-1][0] == " ":
        cells.pop()
    spans, at = [], 0
    while at < len(cells):
        end = at
        while end < len(cells) and (cells[end][1:] == cells[at][1:] or cells[end][0] == " "):
            end += 1
        text = "".join(character for character, _, _ in cells[at:end])
        _, colour, bold = cells[at]
        style = "" if colour == FOREGROUND else f' fill="{colour}"'
        weight = ' font-weight="bold"' if bold else ""
        plain = html.escape(text, quote=False)
        spans.append(f"<tspan{style}{weight}>{plain}</tspan>" if style or weight else plain)
        at = end
    if not spans:
        return ""
    # The length keeps the columns aligned in any font.
    length = f' textLength="{len(cells) * CHARACTER:.0f}"'
    return f'<text xml:space="preserve" x="{MARGIN}" y="{MARGIN + LINE * (y + 1) - 4}"{length}>{"".join(spans)}</text>'


def svg(taken):
    """The picture."""
    width, height = COLUMNS * CHARACTER + 2 * MARGIN, LINES * LINE + 2 * MARGIN
    shown, whole = 1 / FRAMES_PER_SECOND, len(taken) / FRAMES_PER_SECOND
    groups = []
    for number, frame in enumerate(taken):
        lines = "".join(line(cells, y) for y, cells in enumerate(frame))
        groups.append(f'<g class="f" style="animation-delay:{number * shown:.2f}s">{lines}</g>')
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" font-size="13"
 font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" fill="{FOREGROUND}">
<title>novella demo: hosts fill and drain while requests are placed on them</title>
<style>
.f {{ visibility: hidden; animation: show {whole:.2f}s step-end infinite }}
@keyframes show {{ 0% {{ visibility: visible }} {100 / len(taken):.3f}% {{ visibility: hidden }} }}
@media (prefers-reduced-motion) {{ .f {{ animation: none }} .f:last-child {{ visibility: visible }} }}
</style>
<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>
{chr(10).join(groups)}
</svg>
"""


def main():
    """Runs the demo and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--novella", default=str(ROOT / "target/release/novella"), help="the executable to run")
    parser.add_argument("--out", default=str(ROOT / "docs/demo.svg"), help="the picture to write")
    asked = parser.parse_args()
    text = svg(frames(asked.novella))
    pathlib.Path(asked.out).write_text(text, encoding="utf-8")
    print(f"{asked.out}: {len(text) / 1000:.0f} KB")


if __name__ == "__main__":
    main()
