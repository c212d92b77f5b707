"The minutes that a chapter prints are computed, for all chapters alike, and so are the hours of the tables."

import json
import re

import minutes
import pytest
from house import NBS


def markdown(text):
    return {"cell_type": "markdown", "source": [text]}


def code(text):
    return {"cell_type": "code", "source": text.splitlines(keepends=True)}


WORDS = markdown("word " * 200)  # two minutes
LINES = code("x = 1\n" * 15)  # two minutes


@pytest.mark.parametrize(
    "path, saved",
    list(minutes.chapters()),
    ids=lambda v: getattr(v, "stem", ""),
)
def test_a_chapter_says_what_is_computed(path, saved):
    cells = saved["cells"]
    assert minutes.said(cells) == minutes.computed(cells)


def test_words_and_lines_count():
    assert minutes.computed([WORDS, LINES]) == (4, 0)


@pytest.mark.parametrize(
    "cell",
    [
        code("#| hide\n" + "x = 1\n" * 15),
        code("#| export\n" + "x = 1\n" * 15),
        code("#| exercise 1.1 x ★ 5min\n" + "x = 1\n" * 15),
        code("#| code-fold: true\n" + "x = 1\n" * 15),
        code("import os\n" * 15),
        markdown("### Exercise 1.1: a task\n" + "word " * 200),
    ],
    ids=["hidden", "export", "solution", "folded", "imports", "task"],
)
def test_what_a_reader_does_not_read_here_does_not_count(cell):
    assert minutes.computed([WORDS, cell]) == (2, 0)


def test_a_chapter_with_exercises_says_that_they_are_not_counted():
    task = markdown("### Exercise 1.1: a task\n" + "word " * 200)
    told = minutes.sentence([WORDS, task, markdown("## Going deeper"), WORDS])
    assert told == (
        "Minutes to read: 2 (and 2 for Going deeper), exercises not counted"
    )
    assert minutes.SAYS.fullmatch(told)
    assert minutes.sentence([WORDS]) == "Minutes to read: 2"


def test_each_layer_counts_by_itself():
    deeper, checked = (
        markdown("## Going deeper"),
        markdown("## How this is checked"),
    )
    cells = [WORDS, deeper, WORDS, LINES, checked, WORDS]
    assert minutes.computed(cells) == (2, 4)


# Hours


def texts(stem):
    "The markdown of a notebook, cell by cell."
    saved = json.loads((NBS / f"{stem}.ipynb").read_text(encoding="utf-8"))
    kept = [c for c in saved["cells"] if c["cell_type"] == "markdown"]
    return [minutes.source(cell) for cell in kept]


@pytest.mark.parametrize("stem", minutes.TABLES)
def test_a_table_says_the_hours_that_are_computed(stem):
    spent = minutes.minutes_of_chapters()
    for text in texts(stem):
        assert minutes.with_hours(text, spent) == text
    assert re.search(r"\| \d+\.\d \|", "".join(texts(stem)))


def test_hours_are_those_of_the_chapters_that_a_row_links_to():
    table = """Before.

| chapter | hours | extra |
|---|---|---|
| **I** | 9.9 | |
| [a](00_a.ipynb), [b](01_b.ipynb) | | 7 |
| [c](01_b.ipynb) | | |
| **II** | | |
| [d](02_d.ipynb) | 3.0 | |
"""
    spent = {"00_a": [60, 30], "01_b": [90, 0]}
    assert minutes.with_hours(table, spent).splitlines()[4:] == [
        "| **I** | 4.0 | 0.5 |",
        "| [a](00_a.ipynb), [b](01_b.ipynb) | 2.5 | 0.5 |",
        "| [c](01_b.ipynb) | 1.5 | |",
        "| **II** | | |",
        "| [d](02_d.ipynb) | | |",
    ]


def test_a_table_without_hours_stays():
    table = "| there | here |\n|---|---|\n| $p \\mid q$ | x |\n"
    assert minutes.with_hours(table, {}) == table


def test_the_plan_sets_every_exercise_that_is_no_extra():
    listed = (minutes.LIB / "exercises.json").read_text(encoding="utf-8")
    needed = {n for n, e in json.loads(listed).items() if not e["extra"]}
    rows = re.findall(r"(?m)^\| \d+ \|.*", "".join(texts("99_teaching")))
    assert rows
    found = [n for row in rows for n in minutes.cells_of(row)[3].split(", ")]
    assert sorted(found) == sorted(needed)
