"""What Python runs at its start in the processes that a notebook starts.

Their seeds are shifted as the notebook's own: see scripts/seeds.py, which puts
this folder on their path.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import seeds

del sys.path[0]
seeds.shift(seeds.wanted())
