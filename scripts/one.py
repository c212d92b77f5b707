"""Run one notebook in this process, from its first cell to its last, as nbdev_test does.

one.py NOTEBOOK            its last line says whether it ran to its end
one.py NOTEBOOK FOLDER     what it trains for long is kept in the folder (kept.py)
"""

import sys
from pathlib import Path

import kept
import seeds

PASSED = "the notebook ran to its end"


def main(notebook, folder=None):
    seeds.shift(seeds.wanted())  # before torch and the others are imported
    if folder:
        sys.path.insert(0, str(Path(__file__).parent.parent))
        kept.keep(folder)
    from nbdev.config import get_config
    from nbdev.test import test_nb

    config = get_config()
    passed, _ = test_nb(
        Path(notebook).resolve(),
        skip_flags=config.tst_flags.split(),
        basepath=config.config_path,
    )
    print(PASSED if passed else "the notebook failed")


if __name__ == "__main__":
    main(*sys.argv[1:])
