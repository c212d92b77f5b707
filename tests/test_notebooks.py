"Every notebook runs to its end: they are the course, and its tests."

import subprocess
import sys

import kept
import nbformat
import pytest
from house import LONG, ROOT, notebooks
from nbformat.v4 import new_code_cell, new_notebook
from notebook import complaint

# They end by processor time or where they hang (scripts/bounded.py), not by the clock.
pytestmark = pytest.mark.timeout(0)


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_notebook(path):
    folder = kept.folder_for(path.stem) if path.stem in LONG else None
    said = complaint(path, folder=folder)
    if said:
        pytest.fail(said, pytrace=False)


# All of the above means nothing if a broken notebook were green.

BROKEN = {
    "an assert that fails": ["assert 1 + 1 == 3"],
    "a cell that does not parse": ["x = = 1"],
    "a late failure": ["x = 1", "print(x)", "y"],
    "an end without a word": ["import os", "os._exit(0)"],
}
GOOD = {
    "one thread": ["import torch", "assert torch.get_num_threads() == 1"],
    "cells to skip": ["#| slow\nassert False", "#| eval: false\nassert False"],
}


def made(folder, cells):
    path = folder / "made.ipynb"
    cells = [new_code_cell(cell) for cell in cells]
    nbformat.write(new_notebook(cells=cells), path)
    return path


@pytest.mark.parametrize("cells", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_notebook_is_red(tmp_path, cells):
    assert complaint(made(tmp_path, cells))


@pytest.mark.parametrize("cells", GOOD.values(), ids=GOOD.keys())
def test_a_good_notebook_is_green(tmp_path, cells):
    assert complaint(made(tmp_path, cells)) is None


def test_one_says_it_by_its_exit_status(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "one.py")]
    for cells, status in ((["x = 1"], 0), (["assert False"], 1)):
        path = str(made(tmp_path, cells))
        done = subprocess.run([*command, path], capture_output=True)
        assert done.returncode == status, done.stdout.decode()


@pytest.mark.heavy
def test_a_notebook_that_never_ends_is_ended(tmp_path):
    spins = made(tmp_path, ["while True: pass"])
    assert "of processor time" in complaint(spins, seconds=6)


@pytest.mark.heavy
def test_a_notebook_that_hangs_is_ended(tmp_path):
    hangs = made(tmp_path, ["import time", "time.sleep(60)"])
    assert "it hangs" in complaint(hangs, idle=5)
