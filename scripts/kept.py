"""Long training runs are made once, and read from their checkpoints afterwards.

    kept.keep(folder)    before a notebook's cells run, in its process

The tests run a chapter that trains several times: solved, and as a learner's
notebook in two ways. All of them call `fit` in the same order, so the runs of
the first are found by the others, by their number.
"""

import functools
import itertools
import os
from pathlib import Path

NAME = "DISCRETE_DIFFUSION_KEPT"  # a folder, with one for each chapter in it
LONG_RUN = 50  # steps: what trains longer is kept


def folder_for(chapter):
    "Where the runs of a chapter are kept; None where nothing is to be kept."
    folder = os.environ.get(NAME)
    return Path(folder) / chapter if folder else None


def keep(folder):
    """From now on `fit` leaves a checkpoint of each long run, and goes on from
    one that it finds; without a bar, and without saying where it came from."""
    import discrete_diffusion.training as training

    training.fit = _kept(training.fit, Path(folder))


def _kept(fit, folder):
    number = itertools.count(1)

    @functools.wraps(fit)
    def once(*args, **options):
        config = options.get("config") or args[3]
        if config.steps < LONG_RUN:
            return fit(*args, **options)
        place = folder / str(next(number))
        place.mkdir(parents=True, exist_ok=True)
        result = fit(*args, **options | {"folder": place, "progress": False})
        result.resumed_from = 0
        return result

    return once
