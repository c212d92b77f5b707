"""How long a chapter takes to read: words / 100, and 8 seconds a line of code.

    minutes.py                 what each chapter says, and what is computed
    minutes.py --write         put what is computed into the chapters, and
                               hours into the tables that have such a column

Counted is what a page shows before "Going deeper", and what stands under it.
Not counted are exercises, whose minutes are their own, imports, which fold,
cells whose source the page hides or folds, and "How this is checked".

A table in which a column is called "hours" has there, for each row, the hours
of the chapters that the row links to: reading, and exercises that are no
extra. A column "extra" has the rest: "Going deeper" and extra exercises. A row
without links has the sum of the rows below it, down to the next such row.
"""

import ast
import json
import re
import sys

from house import LIB, NBS, notebooks, parsed, write_atomically

SAYS = re.compile(
    r"Minutes to read: (\d+)(?: \(and (\d+) for Going deeper\))?"
    r"(?:, exercises not counted)?"
)
HIDDEN = {"hide", "wrong", "check", "exercise", "export", "default_exp"}
TABLES = ["index", "99_teaching"]  # notebooks with a table of hours
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


def sentence(cells):
    "What the chapter should say of itself."
    line, deeper = computed(cells)
    more = f" (and {deeper} for Going deeper)" if deeper else ""
    tasks = any(re.match(r"#+ Exercise", source(cell)) for cell in cells)
    aside = ", exercises not counted" if tasks else ""
    return f"Minutes to read: {line}{more}{aside}"


def write(path, saved):
    "Put what is computed where the chapter says it."
    words = sentence(saved["cells"])
    for cell in saved["cells"]:
        text = SAYS.sub(words, source(cell))
        cell["source"] = text.splitlines(keepends=True)
    text = json.dumps(saved, indent=1, ensure_ascii=False)
    write_atomically(path, text + "\n")


# Hours, for a table of chapters


def minutes_of_chapters():
    "For each notebook that one reads: minutes that all need, and extra ones."
    spent = {}
    for path, saved in chapters():
        spent[path.stem] = list(computed(saved["cells"]))
    listed = json.loads((LIB / "exercises.json").read_text(encoding="utf-8"))
    for exercise in listed.values():
        spent[exercise["chapter"]][exercise["extra"]] += exercise["minutes"]
    return spent


def hours(minutes):
    "As the tables write it; nothing where there is nothing to read."
    return f"{minutes / 60:.1f}" if minutes else ""


def with_hours(text, spent):
    "A markdown cell with the hours of its tables."
    table = r"(?m)^\|.*\bhours *\|.*\n\|[-|: ]+\n(?:\|.*(?:\n|\Z))+"
    return re.sub(table, lambda found: filled(found[0], spent), text)


def filled(table, spent):
    "A table with its hours."
    head, dashes, *rows = [cells_of(line) for line in table.splitlines()]
    sums = [0, 0]
    for row in reversed(rows):
        linked = re.findall(r"\((\d\w+)\.ipynb\)", " ".join(row))
        needed = [spent.get(stem, (0, 0)) for stem in linked]
        both = [sum(column) for column in zip((0, 0), *needed, strict=True)]
        if linked:
            sums = [a + b for a, b in zip(sums, both, strict=True)]
        else:
            both, sums = sums, [0, 0]
        for name, minutes in zip(["hours", "extra"], both, strict=True):
            if name in head:
                row[head.index(name)] = hours(minutes)
    lines = ["| " + " | ".join(row) + " |" for row in [head, *rows]]
    lines.insert(1, "|" + "|".join(dashes) + "|")
    return re.sub(r"  +", " ", "\n".join(lines)) + "\n" * table.endswith("\n")


def cells_of(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def write_hours():
    "Put hours into the tables."
    for stem in TABLES:
        path, spent = NBS / f"{stem}.ipynb", minutes_of_chapters()
        saved = json.loads(path.read_text(encoding="utf-8"))
        for cell in saved["cells"]:
            if cell["cell_type"] == "markdown":
                text = with_hours(source(cell), spent)
                cell["source"] = text.splitlines(keepends=True)
        text = json.dumps(saved, indent=1, ensure_ascii=False)
        write_atomically(path, text + "\n")


def main():
    for path, saved in chapters():
        now, then = computed(saved["cells"]), said(saved["cells"])
        print(f"{path.stem}: {now} computed, {then} said")
        if "--write" in sys.argv:
            write(path, saved)
    if "--write" in sys.argv:
        write_hours()


if __name__ == "__main__":
    main()
