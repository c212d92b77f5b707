"""Run one notebook in this process, from its first cell to its last, as nbdev_test does.

one.py NOTEBOOK            its last line says whether it ran to its end, and
                           the exit status, 0 or 1
one.py NOTEBOOK FOLDER     what it trains for long is kept in the folder (kept.py)

Its exercises are asked on the way (check_exercises.py): the learner's stub must
be refused, each wrong answer must hear its own sentence.
"""

import sys
from pathlib import Path

import kept
import seeds

PASSED = "the notebook ran to its end"


def main(notebook, folder=None):
    seeds.shift(seeds.wanted())  # before torch and the others are imported
    sys.path.insert(0, str(Path(__file__).parent.parent))
    if folder:
        kept.keep(folder)
    from check_exercises import check_whole

    passed, said = check_whole(Path(notebook).resolve())
    print(*said, sep="\n")
    ran = passed and not said
    print(PASSED if ran else "the notebook failed")
    return int(not ran)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
