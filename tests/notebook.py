"A notebook in a process of its own, with limits."

import os
import sys

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
    command = [sys.executable, str(ROOT / "scripts" / "one.py"), str(path)]
    if folder is not None:
        command.append(str(folder))
    return bounded(command, seconds * PATIENCE, 1, closing=PASSED, idle=idle)
