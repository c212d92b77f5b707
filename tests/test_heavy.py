"The scripts of scripts/heavy/: the built site, learners' notebooks, a wheel, Colab."

import sys

import pytest
from bounded import bounded
from house import LONG, ROOT, notebooks
from notebook import PATIENCE

SECONDS = 7200  # of processor time: some run several notebooks
SITE = ["pages", "reader"]  # they share the built site, one after the other
ALONE = ["lab"]  # a browser that waits
OTHERS = sorted(
    {p.stem for p in (ROOT / "scripts" / "heavy").glob("*.py")}
    - {*SITE, *ALONE, "learners"}
)
CHAPTERS = sorted((p.stem for p in notebooks()), key=lambda n: n not in LONG)
pytestmark = [pytest.mark.heavy, pytest.mark.timeout(0)]


def run(name, *words):
    script = ROOT / "scripts" / "heavy" / f"{name}.py"
    command = [sys.executable, str(script), *words]
    said = bounded(command, SECONDS * PATIENCE, cwd=ROOT)
    if said:
        pytest.fail(said, pytrace=False)


def test_site():
    for name in SITE:
        run(name)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_learners(chapter):
    run("learners", chapter)


@pytest.mark.parametrize("name", OTHERS)
def test_script(name):
    run(name)


@pytest.mark.alone
@pytest.mark.parametrize("name", ALONE)
def test_with_nothing_beside_it(name):
    run(name)
