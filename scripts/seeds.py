"""Other seeds for a whole process: every seed that is given gets `k` added to it.

    DISCRETE_DIFFUSION_SEEDS=+3     the scripts that run notebooks ask for it
    import seeds; seeds.shift(3)    before anything else is imported

What holds only for the seeds that stand in a notebook shows so. Shifted are
torch (every generator, the default one and `torch.manual_seed`), NumPy's
`np.random.seed` and `default_rng`, Python's `random`, and hypothesis, which
takes its derandomized seed to `random.Random`. Not shifted is what is data:
`np.random.RandomState`, which draws which digits are for testing, and the number
of a `random_world`, whose probabilities the text of a chapter quotes.
"""

import ctypes
import gc
import os
import random
import sys
from pathlib import Path

NAME = "DISCRETE_DIFFUSION_SEEDS"
DATA = {"random_world"}  # functions whose seed says which data, not which draws
CHILDREN = str(Path(__file__).resolve().parent / "shifted")


def wanted():
    "The shift that the environment asks for, 0 where it says nothing."
    text = os.environ.get(NAME, "").strip() or "0"
    try:
        return int(text)
    except ValueError:
        sys.exit(f"{NAME}={text} is no whole number, as in {NAME}=+3.")


def shift(k):
    """Add k to every seed from now on, here and in processes started from here.

    With 0 nothing is touched.
    """
    if k == 0:
        return
    os.environ[NAME] = str(k)
    path = [CHILDREN, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(
        dict.fromkeys(filter(None, path))
    )
    _shift_random(k)
    _shift_numpy(k)
    _shift_torch(k)


def _added(seed, k, bits):
    """The seed, k further, from the other end again where it would not fit.

    What is no whole number comes back as it is, and is refused as it was.
    """
    if not hasattr(seed, "__index__"):
        return seed
    further = int(seed) + k
    return further % 2**bits if further >= 2**bits else further


def _shift_random(k):
    original, inner = random.Random, random.seed

    class Kind(type):
        def __instancecheck__(cls, made):
            return isinstance(made, original)

    class Random(original, metaclass=Kind):
        def seed(self, a=None, version=2):
            super().seed(_added(a, k, 10_000), version)

        def __reduce__(self):
            return _restore_random, (self.getstate(),)

    Random.__name__ = Random.__qualname__ = "Random"
    random.Random = Random
    random.seed = lambda a=None, version=2: inner(_added(a, k, 10_000), version)


def _restore_random(state):
    made = random.Random()
    made.setstate(state)
    return made


def _shift_numpy(k):
    import numpy as np

    default_rng, seed = np.random.default_rng, np.random.seed

    def shifted(value):
        if isinstance(value, (list, tuple, np.ndarray)):
            return [*value, k]
        return _added(value, k, 10_000)

    np.random.default_rng = lambda seed=None: default_rng(shifted(seed))
    np.random.seed = lambda value=None: seed(_added(value, k, 32))


def _shift_torch(k):
    """The method of the C type itself, so that the default generator is shifted too.

    A C type refuses to be changed, its dictionary does not.
    """
    import torch

    kind = torch.Generator
    original = kind.manual_seed

    def manual_seed(self, seed):
        caller = sys._getframe(1).f_code.co_name
        return original(self, seed if caller in DATA else _added(seed, k, 64))

    methods = gc.get_referents(kind.__dict__)[0]
    methods["manual_seed"] = manual_seed
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))
    assert torch.Generator().manual_seed(5).initial_seed() == 5 + k
