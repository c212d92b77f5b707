"A notebook in a process of its own, with limits."

import os
import sys

import forked
import seeds
from bounded import IDLE, bounded
from house import LONG, ROOT
from one import PASSED

SECONDS = 300  # of processor time, for any notebook but those of LONG
# A slow machine multiplies all limits.
PATIENCE = float(os.environ.get("TEST_PATIENCE", 1))


def complaint(path, seconds=None, idle=IDLE, folder=None):
    """What went wrong in a run of the notebook, None if nothing did.

    What it trains for long goes to the folder, where one is given.
    """
    if seconds is None:
        seconds = LONG.get(path.stem, SECONDS)
    seconds *= PATIENCE
    words = [str(path), *([] if folder is None else [str(folder)])]
    # seeds are shifted before anything is imported
    if forked.POSSIBLE and not seeds.wanted():
        return forked.forked(words, seconds, PASSED, idle)
    command = [sys.executable, str(ROOT / "scripts" / "one.py"), *words]
    return bounded(command, seconds, 1, closing=PASSED, idle=idle)
