"Notebooks under `nbdev_test` take one thread each, by themselves."

import os
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

TEST = """
import sys
from pathlib import Path
from nbdev.test import test_nb
passed, seconds = test_nb(Path(sys.argv[1]), skip_flags=[])
sys.exit(not passed)
"""


def run(command, root, **more):
    env = dict(os.environ, PYTHONPATH=str(root))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "IN_TEST"):
        env.pop(name, None)
    done = subprocess.run(
        command, env=env | more, cwd=root, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def threads(root, **more):
    code = (
        "import torch\n"
        "import discrete_diffusion.exercises\n"
        "print(torch.get_num_threads())"
    )
    status, out, err = run([sys.executable, "-c", code], root, **more)
    assert status == 0, err
    return int(out)


def test_a_notebook_under_nbdev(root, tmp_path):
    cells = [
        "import torch",
        "import discrete_diffusion.viz",
        "assert torch.get_num_threads() == 1, torch.get_num_threads()",
    ]
    path = tmp_path / "one.ipynb"
    cells = [new_code_cell(cell) for cell in cells]
    nbformat.write(new_notebook(cells=cells), path)
    status, _, err = run([sys.executable, "-c", TEST, str(path)], root)
    assert status == 0, err


def test_only_there(root):
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one processor")
    assert threads(root, IN_TEST="1") == 1
    assert threads(root, IN_TEST="1", OMP_NUM_THREADS="2") == 2
    assert threads(root) > 1


def test_the_command_is_named_where_users_and_ci_look(root):
    readme = (root / "README.md").read_text(encoding="utf-8")
    row = next(line for line in readme.splitlines() if "nbdev_test` |" in line)
    assert " s on two" in row
    flow = root / ".github" / "workflows" / "test.yml"
    assert ".venv/bin/nbdev_test" in flow.read_text(encoding="utf-8")
