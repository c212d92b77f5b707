"""The exercises as a whole.

Each one is asked where its notebook runs (test_notebooks.py): its stub refused,
its solution accepted, each wrong answer told what it is.
"""

import check_exercises
import nbformat
import pytest
from house import notebooks
from notebook import complaint

from discrete_diffusion.exercises import find_exercises


def test_the_hours_of_the_core_path():
    assert not check_exercises.hours()


def test_the_list_has_every_exercise_in_its_order():
    found = []
    for path in notebooks():
        if "#| exercise" in path.read_text(encoding="utf-8"):
            nb = nbformat.read(path, as_version=4)
            numbers = [e.number for e in find_exercises(nb, path.stem)]
            found += [(number, path.stem) for number in numbers]
    listed = check_exercises.listed().items()
    assert found == [(number, e["chapter"]) for number, e in listed]


def test_a_broken_exercise_is_complained_about():
    assert not check_exercises.is_red()


@pytest.mark.parametrize("what", ["passes", "a small bank"])
def test_a_notebook_is_as_good_as_its_exercises(tmp_path, what):
    change, says = check_exercises.BROKEN[what]
    path = tmp_path / "08_made.ipynb"
    parts = {**check_exercises.PARTS, **change}
    nbformat.write(check_exercises.chapter_of(parts), path)
    said = complaint(path)
    assert (says in said) if says else said is None
