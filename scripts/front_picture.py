"""The moving picture of the README and of the site's first page, nbs/front.svg:
a text out of blanks, and digits out of masks.

    front_picture.py

Two trained networks that come with the package draw both. What they drew lies
below; blocks cover each letter and each pixel, and a block fades at the moment
at which the sampler drew what it covers. Where a reader has asked for less
motion, only the finished text and digits show.
"""

import sys

from house import NBS, ROOT, write_atomically

sys.path.insert(0, str(ROOT))
import torch

import discrete_diffusion as dd
from discrete_diffusion.d3pm import digit_kernel

TEXT_SEED, DIGITS_SEED = 6, 2  # a text of short lines, digits that one can tell
LETTERS = 160  # how long the text is
COLUMNS = 38  # letters in a line of the picture
FRAMES = 48  # moments at which something appears
SECONDS = 8  # of which the last 2.5 show what was made
BEGIN, END = 0.05, 0.68  # where in the loop the first and last letter appears
CELL, LINE, PIXEL = 9.6, 22, 2  # a letter's width and height, a pixel's side
TILE = 28 * PIXEL + 6  # from one digit to the next
EDGE = 18  # around everything

STYLE = """
svg { --page: #f5f7f9; --tile: #fff; --ink: #1d2126; --blank: #b9d7ec }
@media (prefers-color-scheme: dark) {
  svg { --page: #1e2329; --tile: #15181c; --ink: #dde1e6; --blank: #2f5673 }
}
.page { fill: var(--page) }
.tile { fill: var(--tile) }
.ink, text { fill: var(--ink) }
text { font: 16px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono",
  "Liberation Mono", monospace; white-space: pre }
.cover { fill: var(--blank); opacity: 0; animation: %ds linear infinite }
.letter { stroke: var(--page); stroke-width: 1.5 }
.pixel { stroke: var(--blank); stroke-width: .5 }
@media (prefers-reduced-motion: reduce) { .cover { animation: none } }
"""
TITLE = (
    "On the left, lines in the manner of Shakespeare appear, letter by "
    "letter, out of blanks; on the right, nine handwritten digits out of masks."
)


def frames_of(path, mask):
    "For each token, the frame in which the sampler has drawn it."
    masked = torch.stack(
        [x[0 if len(x) == 1 else ...] == mask for _, x in path]
    )
    return masked.sum(0) * FRAMES // len(path)


def draw_text(generator):
    "A text as a string, and the frame of each of its letters."
    shipped = dd.load_pretrained("masked")
    tokens = dd.CharTokenizer(shipped.notes["alphabet"])
    kernel = dd.Absorbing(tokens.K, dd.linear_schedule())
    given = torch.full((1, LETTERS), -1)
    given[0, 0] = tokens.encode("\n").item()  # the text begins with a line
    drawn = dd.first_hitting(
        shipped.net,
        kernel,
        (1, LETTERS),
        given=given,
        temperature=0.8,
        generator=generator,
        keep_path=True,
    )
    text = tokens.decode(drawn.x[0])
    return text[1:], frames_of(drawn.path, kernel.mask)[1:].tolist()


def draw_digits(generator):
    "Digits 1 to 9, (9, 28, 28) grey levels 0 to 3, and each pixel's frame."
    net = dd.load_pretrained("digits").net
    system = dd.MaskedD3PM(digit_kernel("absorbing"), T=1000)
    drawn = system.sample(
        net,
        torch.arange(1, 10),
        times=FRAMES,
        guidance=1.5,
        generator=generator,
        keep_path=True,
    )
    return drawn.x, frames_of(drawn.path, system.kernel.mask)


def places(text):
    "(row, column) of each letter: lines end where the text or the width does."
    row = column = 0
    found = []
    for i, letter in enumerate(text):
        word = text[i:].split(maxsplit=1)[0] if not letter.isspace() else ""
        starts = i == 0 or text[i - 1].isspace()
        if starts and column and column + len(word) > COLUMNS:
            row, column = row + 1, 0
        found.append((row, column))
        row, column = (row + 1, 0) if letter == "\n" else (row, column + 1)
    return found


def block(x, y, width, height):
    return f"M{x:g} {y:g}h{width:g}v{height:g}h{-width:g}z"


def covers(blocks, kind):
    "One path for all blocks that fade in the same frame."
    return "".join(
        f'<path class="cover f{frame} {kind}" d="{"".join(some)}"/>\n'
        for frame, some in sorted(blocks.items())
    )


def text_part(text, frames, top):
    "The letters, and the blocks over them."
    shown, blocks = "", {}
    for letter, frame, (row, column) in zip(
        text, frames, places(text), strict=True
    ):
        x, y = EDGE + CELL * column, top + LINE * row
        if not letter.isspace():
            safe = {"&": "&amp;", "<": "&lt;"}.get(letter, letter)
            shown += f'<text x="{x:g}" y="{y + 16:g}">{safe}</text>\n'
        blocks.setdefault(frame, []).append(block(x, y, CELL, LINE))
    return shown + covers(blocks, "letter")


def digits_part(x_0, frames, left, top):
    "The digits' pixels, one path a grey level, and the blocks over them."
    shown, ink, blocks = "", {}, {}
    for i, (digit, when) in enumerate(zip(x_0, frames, strict=True)):
        x, y = left + TILE * (i % 3), top + TILE * (i // 3)
        shown += (
            f'<path class="tile" d="{block(x, y, 28 * PIXEL, 28 * PIXEL)}"/>\n'
        )
        for row in range(28):
            for column in range(28):
                pixel = block(x + PIXEL * column, y + PIXEL * row, PIXEL, PIXEL)
                level, frame = digit[row, column].item(), when[row, column]
                if level:
                    ink.setdefault(level, []).append(pixel)
                blocks.setdefault(frame.item(), []).append(pixel)
    for level, some in sorted(ink.items()):
        shown += f'<path class="ink" opacity="{level / 3:.2f}" d="{"".join(some)}"/>\n'
    drawn = shown + covers(blocks, "pixel")
    return f'<g shape-rendering="crispEdges">\n{drawn}</g>\n'


def keyframes():
    "For each frame, when in the loop its blocks fade; at the end all return."
    lines = []
    for frame in range(1, FRAMES + 1):
        at = 100 * (BEGIN + (END - BEGIN) * frame / FRAMES)
        lines.append(
            f"@keyframes f{frame} {{ 0%, {at:.1f}% {{ opacity: 1 }} "
            f"{at + 2:.1f}%, 97% {{ opacity: 0 }} 100% {{ opacity: 1 }} }}\n"
            f".f{frame} {{ animation-name: f{frame} }}\n"
        )
    return "".join(lines)


def picture():
    text, frames = draw_text(torch.Generator().manual_seed(TEXT_SEED))
    digits = draw_digits(torch.Generator().manual_seed(DIGITS_SEED))
    rows = 1 + max(row for row, _ in places(text))
    left = EDGE + CELL * COLUMNS + 16
    width = left + 3 * TILE - 6 + EDGE
    height = 2 * EDGE + max(LINE * rows, 3 * TILE - 6)
    words = text_part(text, frames, (height - LINE * rows) / 2)
    images = digits_part(*digits, left, (height - 3 * TILE + 6) / 2)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'width="{1.2 * width:g}" height="{1.2 * height:g}" '
        f'viewBox="0 0 {width:g} {height:g}">\n<title>{TITLE}</title>\n'
        f"<style>{STYLE % SECONDS}{keyframes()}</style>\n"
        f'<rect class="page" width="100%" height="100%" rx="8"/>\n'
        f"{words}{images}</svg>\n"
    )


def main():
    torch.set_num_threads(1)
    path = NBS / "front.svg"
    write_atomically(path, picture())
    print(f"nbs/{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
