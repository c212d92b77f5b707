"The switch that shifts every seed of a process: other draws, nothing else."

import json
import os
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

DRAWS = """
import copy, json, pickle, random, subprocess, sys
sys.path.insert(0, sys.argv[1])
if sys.argv[2] != "untouched":
    import seeds
    seeds.shift(int(sys.argv[2]))
import numpy as np
import torch
from hypothesis import given, settings, strategies

def torch_global():
    torch.manual_seed(0)
    return torch.rand(3).tolist()

def torch_default_generator():
    torch.default_generator.manual_seed(0)
    return torch.rand(3).tolist()

def torch_generator():
    return torch.rand(3, generator=torch.Generator().manual_seed(0)).tolist()

def numpy_global():
    np.random.seed(0)
    return np.random.rand(3).tolist()

def numpy_default_rng():
    return np.random.default_rng(0).random(3).tolist()

def numpy_default_rng_of_several():
    return np.random.default_rng([1, 2]).random(3).tolist()

def random_global():
    random.seed(0)
    return random.random()

def random_object():
    return random.Random(0).random()

def a_process_of_its_own():
    code = "import torch; torch.manual_seed(0); print(torch.rand(1).item())"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, stdout=subprocess.PIPE).stdout.decode()

def hypothesis_examples():
    seen = []

    @settings(derandomize=True, database=None, max_examples=20)
    @given(strategies.integers(0, 10**9))
    def look(number):
        seen.append(number)

    look()
    return seen

made = {f.__name__: f() for f in list(vars().values()) if callable(f)
        and getattr(f, "__module__", "") == "__main__"}

# What must go on working.
g = torch.Generator()
assert g.manual_seed(0) is g
assert isinstance(g, torch.Generator)
assert isinstance(torch.default_generator, torch.Generator)
g.manual_seed(2**64 - 1)
for wrong in ("a", 1.5, None):
    try: g.manual_seed(wrong)
    except (TypeError, RuntimeError): pass
    else: raise AssertionError(wrong)
h = torch.Generator()
h.set_state(g.get_state())
assert torch.equal(torch.rand(3, generator=g), torch.rand(3, generator=h))
r = random.Random(3)
assert copy.deepcopy(r).random() == pickle.loads(pickle.dumps(r)).random()
assert isinstance(r, random.Random)
assert isinstance(random.SystemRandom(), random.Random)
assert random.Random("a").random() == random.Random("a").random()
rng = np.random.default_rng(1)
assert np.random.default_rng(rng) is rng
np.random.seed(2**32 - 1)
np.random.default_rng(), random.Random(), random.seed()
fixed = np.random.RandomState(0).rand(3).tolist()
print(json.dumps([made, fixed]))
"""


def draws(root, k):
    scripts = str(root / "scripts")
    command = [sys.executable, "-c", DRAWS, scripts, k]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.heavy
def test_draws_differ_and_nothing_else(root):
    plain, fixed = draws(root, "untouched")
    assert draws(root, "0") == [plain, fixed]
    shifted, also_fixed = draws(root, "1")
    assert shifted.keys() == plain.keys() and len(plain) == 10
    assert [name for name in plain if plain[name] == shifted[name]] == []
    assert also_fixed == fixed, "the digits for testing are part of the data"


@pytest.mark.heavy
def test_a_notebook_under_the_runner(tmp_path, monkeypatch):
    "One that holds for its own seed alone turns red with another."
    from notebook import complaint

    cells = [
        "import torch",
        "torch.manual_seed(0)",
        "assert .4962 < torch.rand(1) < .4963",
    ]
    path = tmp_path / "luck.ipynb"
    cells = [new_code_cell(cell) for cell in cells]
    nbformat.write(new_notebook(cells=cells), path)
    for k, red in [("", False), ("+1", True)]:
        monkeypatch.setenv("DISCRETE_DIFFUSION_SEEDS", k)
        assert (complaint(path) is not None) == red, k


def test_a_shift_that_is_no_number(root):
    env = dict(os.environ, DISCRETE_DIFFUSION_SEEDS="many")
    command = [sys.executable, str(root / "scripts" / "one.py"), "00_core"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().endswith("as in DISCRETE_DIFFUSION_SEEDS=+3.")
    assert "Traceback" not in done.stderr
