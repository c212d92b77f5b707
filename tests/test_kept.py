"Long training runs are made once, in the notebook's test, and read from then on."

import kept
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from notebook import complaint

from discrete_diffusion import training
from discrete_diffusion.training import TrainConfig

SETUP = """
import torch
from torch import nn
from discrete_diffusion.training import *

class Counted(nn.Linear):
    calls = 0
    def forward(self, x):
        Counted.calls += self.training
        return super().forward(x)

def loss(net, x): return (net(x) - 1).square().sum(1)

data = torch.linspace(-1, 1, 64).reshape(32, 2)
"""
LONG = """
torch.manual_seed(0)
net = Counted(2, 1)
run = fit(net, loss, data, TrainConfig(steps=60, batch_size=8), progress=False)
print(run.resumed_from, [p.tolist() for p in net.parameters()])
"""
# In place of what the library knows of its own exercise 8.1.
REFERENCE = """
import discrete_diffusion.exercises as known
entry = dict(chapter="08_trains", title="twice", stars=1, minutes=1,
    extra=False, names=["twice"], source="def twice(x): return x + x")
known.references = lambda: {"8.1": entry}
"""
SHORT = LONG.replace("steps=60", "steps=5")


def notebook(folder, *cells):
    path = folder / "trains.ipynb"
    cells = [new_code_cell(cell) for cell in (SETUP, *cells)]
    nbformat.write(new_notebook(cells=cells), path)
    return path


def test_the_second_run_trains_no_more(tmp_path):
    trained = tmp_path / "trained"
    first = notebook(tmp_path, SHORT, LONG, "assert Counted.calls == 65")
    assert complaint(first, folder=trained) is None
    assert [p.name for p in trained.iterdir()] == ["1"]
    no_more = "assert Counted.calls == 5 and run.resumed_from == 0"
    again = notebook(tmp_path, SHORT, LONG, no_more)
    assert complaint(again, folder=trained) is None


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.delenv(kept.NAME, raising=False)
    assert kept.folder_for("10_d3pm") is None
    same = "import discrete_diffusion.training as t\nassert t.fit is fit"
    path = notebook(
        tmp_path, LONG, same, "assert not hasattr(fit, '__wrapped__')"
    )
    assert complaint(path) is None
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_result_is_the_same(tmp_path, monkeypatch):
    "Trained, trained and kept, read: to the last bit."
    import torch
    from torch import nn

    def weights(fit):
        torch.manual_seed(0)
        net = nn.Linear(2, 1)
        data = torch.linspace(-1, 1, 64).reshape(32, 2)
        config = TrainConfig(steps=60, batch_size=8)

        def loss(net, x):
            return (net(x) - 1).square().sum(1)

        fit(net, loss, data, config, progress=False)
        return [p.tolist() for p in net.parameters()]

    plain = weights(training.fit)
    for _ in range(2):
        assert weights(kept._kept(training.fit, tmp_path)) == plain


@pytest.mark.heavy
def test_a_chapter_is_trained_once_for_all_its_runs(
    root, tmp_path, monkeypatch
):
    "The notebook's own test, then as a learner's."
    from check_exercises import PARTS
    from nbformat.v4 import new_markdown_cell

    monkeypatch.syspath_prepend(str(root / "scripts" / "heavy"))
    import learners

    monkeypatch.setenv(kept.NAME, str(tmp_path / "trained"))
    log = tmp_path / "losses"
    trains = LONG.replace("loss, data", "noted, data")
    cells = [
        new_code_cell("#| default_exp trains"),
        new_code_cell(REFERENCE),
        *(
            (new_markdown_cell if kind == "task" else new_code_cell)(source)
            for kind, source in PARTS.items()
        ),
        new_code_cell(SETUP),
        new_code_cell(
            "# stands for train_text(...)\n"
            "def noted(net, x):\n"
            f"    with open({str(log)!r}, 'a') as f: f.write('.')\n"
            "    return loss(net, x)\n" + trains
        ),
    ]
    path = tmp_path / "08_trains.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    folder = kept.folder_for(path.stem)
    assert complaint(path, folder=folder) is None
    assert log.read_text() == "." * 60
    assert learners.one_chapter(path) == 1
    assert log.read_text() == "." * 60
