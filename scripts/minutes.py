"""How long a chapter takes to read: words / 100, and 8 seconds a line of code.

    minutes.py                 what each chapter says, and what is computed
    minutes.py --write         put what is computed into the chapters

Counted is what a page shows before "Going deeper", and what stands under it.
Not counted are exercises, whose minutes are their own, imports, which fold,
cells whose source the page hides or folds, and "How this is checked".
"""

import ast
import json
import re
import sys

from house import notebooks, parsed, write_atomically

SAYS = re.compile(r"Minutes to read: (\d+)(?: \(and (\d+) for Going deeper\))?")
HIDDEN = {"hide", "wrong", "check", "exercise", "export", "default_exp"}
FOLDS = r"^#\|\s*(echo: *false|code-fold: *true)"
ASIDE = {"Going deeper": "deeper", "How this is checked": None}


def source(cell):
    return "".join(cell["source"])


def is_shown(code):
    "Does the page show this code, open and outside an exercise?"
    marks = set(re.findall(r"^#\|\s*([\w-]+)", code, re.M))
    if marks & HIDDEN or re.search(FOLDS, code, re.M):
        return False
    body = parsed(code).body
    return not all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in body)


def lines_of(code):
    lines = [line for line in code.split("\n") if line.strip()]
    return sum(not line.startswith("#|") for line in lines)


def computed(cells):
    "Minutes of the line of reading, and of what goes deeper."
    minutes = {"line": 0.0, "deeper": 0.0, None: 0.0}
    part = "line"
    for cell in cells:
        text = source(cell)
        if cell["cell_type"] == "code":
            minutes[part] += lines_of(text) * 8 / 60 if is_shown(text) else 0
            continue
        heading = re.search(r"^## +(.+?) *$", text, re.M)
        if heading:
            part = ASIDE.get(heading[1], part)
        if not re.match(r"#+ Exercise", text):
            minutes[part] += len(text.split()) / 100
    return round(minutes["line"]), round(minutes["deeper"])


def chapters():
    "The chapters that one reads, with their cells; not those for looking up."
    for path in notebooks():
        saved = json.loads(path.read_text(encoding="utf-8"))
        cells = saved["cells"]
        texts = [source(c) for c in cells if c["cell_type"] == "markdown"]
        text = "\n".join(texts)
        if SAYS.search(text) and "or none: it is for looking up" not in text:
            yield path, saved


def said(cells):
    "What the chapter says of itself."
    found = SAYS.search("\n".join(map(source, cells)))
    return int(found[1]), int(found[2] or 0)


def sentence(line, deeper):
    more = f" (and {deeper} for Going deeper)" if deeper else ""
    return f"Minutes to read: {line}{more}"


def write(path, saved):
    "Put what is computed where the chapter says it."
    words = sentence(*computed(saved["cells"]))
    for cell in saved["cells"]:
        text = SAYS.sub(words, source(cell))
        cell["source"] = text.splitlines(keepends=True)
    text = json.dumps(saved, indent=1, ensure_ascii=False)
    write_atomically(path, text + "\n")


def main():
    for path, saved in chapters():
        now, then = computed(saved["cells"]), said(saved["cells"])
        print(f"{path.stem}: {now} computed, {then} said")
        if "--write" in sys.argv and now != then:
            write(path, saved)


if __name__ == "__main__":
    main()
