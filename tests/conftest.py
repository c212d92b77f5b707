"""What every test gets: one torch thread, this checkout's code, and nothing of the learner's own.

pytest                                  all but the long ones
pytest -m heavy                         the long ones
pytest -n 2                             two processes
pytest tests/test_notebooks.py -k 03    one chapter
pytest --seeds 3 -k 03_forward          with other seeds in the notebooks
"""

import os
import sys
import tempfile
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["MPLBACKEND"] = "agg"
PROGRESS = tempfile.TemporaryDirectory(prefix="progress-")
os.environ["DISCRETE_DIFFUSION_PROGRESS"] = f"{PROGRESS.name}/progress.jsonl"

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "tests")]

import pytest
import seeds
import torch
from house import LONG

torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption("--seeds", type=int, help="add this to every seed")


def pytest_configure(config):
    if config.getoption("--seeds") is not None:
        os.environ[seeds.NAME] = str(config.getoption("--seeds"))


def pytest_collection_modifyitems(items):
    "What trains starts first, so that nothing long is left over at the end."
    names = list(LONG)

    def order(item):
        chapter = getattr(item, "callspec", None) and item.callspec.id
        is_run = item.originalname == "test_notebook" and chapter in names
        return names.index(chapter) if is_run else len(names)

    items.sort(key=order)


@pytest.fixture
def root():
    "The top folder of this checkout."
    return ROOT


@pytest.fixture
def generator():
    "A generator of one's own: tests draw from it, never from the global one."
    return torch.Generator().manual_seed(0)
