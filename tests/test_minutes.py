"The minutes that a chapter prints are computed, for all chapters alike."

import minutes
import pytest


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


def test_each_layer_counts_by_itself():
    deeper, checked = (
        markdown("## Going deeper"),
        markdown("## How this is checked"),
    )
    cells = [WORDS, deeper, WORDS, LINES, checked, WORDS]
    assert minutes.computed(cells) == (2, 4)
