"""Exercise 4.3 is the learner's to find: no cell and no first message tells it."""

import re
from pathlib import Path

import nbformat

from discrete_diffusion.exercises import make_learner

NOTEBOOK = Path(__file__).parents[1] / "nbs" / "04_posterior.ipynb"


def learner():
    nb = nbformat.read(NOTEBOOK, as_version=4)
    return make_learner(nb, "04_posterior")


def test_no_cell_before_it_divides_by_the_evidence():
    cells = learner().cells
    keys = [c.metadata["course"]["key"] for c in cells]
    before = cells[: keys.index("4.3 check")]
    for cell in before:
        text = re.sub(r"<details>.*?</details>", "", cell.source, flags=re.S)
        squeezed = re.sub(r"\s+", "", text)
        assert "p(x_0\\midx_t)}{q(x_t\\midx_0)}" not in squeezed, cell.source
        assert "p/torch.where(can,ev" not in squeezed, cell.source


def test_its_bank_names_the_first_mistake_no_further():
    nb = nbformat.read(NOTEBOOK, as_version=4)
    bank = next(c.source for c in nb.cells if "#| wrong 4.3" in c.source)
    check = next(c.source for c in nb.cells if "#| check 4.3" in c.source)
    assert "# as it came" in bank
    assert "counted twice" not in check and "evidence" not in check
