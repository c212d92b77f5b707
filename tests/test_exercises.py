"Every exercise: its stub refused, its solution accepted, each wrong answer told what it is."

import check_exercises
import pytest
from house import notebooks

pytestmark = pytest.mark.timeout(0)
WITH_EXERCISES = [
    path
    for path in notebooks()
    if "#| exercise" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("path", WITH_EXERCISES, ids=lambda path: path.stem)
def test_exercises_of(path):
    said = check_exercises.check_all([path])
    assert not said, "\n".join(said)


def test_the_hours_of_the_core_path():
    assert not check_exercises.hours()


def test_every_chapter_lists_its_exercises():
    listed = check_exercises.chapters_in_the_list()
    assert listed == {p.stem for p in WITH_EXERCISES if p.stem < "90"}


def test_a_broken_exercise_is_complained_about():
    assert not check_exercises.is_red()
