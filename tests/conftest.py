"""What every test gets: one torch thread, this checkout's code, and nothing of the learner's own.

pytest                      the tests that are quick
pytest --heavy              the long ones too
pytest -n 2                 two processes
pytest tests/test_x.py      one file
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
import torch

torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption("--heavy", action="store_true", help="the long tests too")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--heavy"):
        return
    skip = pytest.mark.skip(reason="long: it needs --heavy")
    for item in items:
        if "heavy" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def root():
    "The top folder of this checkout."
    return ROOT


@pytest.fixture
def generator():
    "A generator of one's own: tests draw from it, never from the global one."
    return torch.Generator().manual_seed(0)
