"""The learner's notebooks run to their end, in two ways.

    learners.py               every notebook that has exercises
    learners.py 03_forward    these only

Solved: the reference pasted into every exercise, as a learner would write it; each check says so, and the printed results are those of the same notebook
with its solutions in place. Skipped: nothing written; each check says that it is not attempted, and with the reference it passes and everything below runs.
Chapters that train are run solved first, and the learner's two runs take the networks that this one trained: the shipped weights belong to other texts.
After the tests of the same day's notebooks (`.ci/run`) the solved run, too, takes the networks that those have trained (scripts/kept.py).
"""

import copy
import json
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
import kept
import nbformat
from bounded import processors
from house import LONG, environment, find_chapter, notebooks
from nbclient import NotebookClient

from discrete_diffusion.exercises import (
    collect_references,
    find_exercises,
    make_learner,
    references,
)

CHANGES = re.compile(
    r" *\b\d+(?:\.\d+)?\s?(?:ms|s|seconds|minutes|MB|GB|steps/s|steps a second|times the speed)\b|seconds=\d+\.\d+|\d+:\d+<\d+:\d+|step-\d{8}|\.\d+\.tmp|0x[0-9a-f]+|\d+(?:\.\d+)?e-1\d\b"
)  # times, speeds, where a process was killed, addresses, rounding: not results


def key(cell):
    return cell.metadata.get("course", {}).get("key", "")


def execute(nb, folder, progress):
    "Run it as JupyterLab would, from its own folder."
    env = dict(
        environment(1),
        DISCRETE_DIFFUSION_PROGRESS=str(progress),
        PYTHONPATH=os.pathsep.join(
            [str(ROOT), os.environ.get("PYTHONPATH", "")]
        ),
    )
    NotebookClient(
        nb,
        timeout=None,
        startup_timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        store_widget_state=False,
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
    ).execute(env=env)
    return nb


def printed(cell):
    "What a cell printed, without times and addresses."
    text = "".join(
        o.get("text", "")
        if o.output_type == "stream"
        else o.get("data", {}).get("text/plain", "")
        for o in cell.get("outputs", [])
    )
    return CHANGES.sub("·", text)


def states(progress):
    return (
        {
            e["number"]: e["state"]
            for e in map(json.loads, progress.read_text().splitlines())
        }
        if progress.exists()
        else {}
    )


KEEP = """
import sys
sys.path.insert(0, {scripts!r})
import kept
del sys.path[0]
kept.keep({folder!r})
"""


def trains(nb):
    return any(
        re.search(r"\b(train_text|train_digits)\(", c.source)
        for c in nb.cells
        if c.cell_type == "code" and "def train_" not in c.source
    )


def both_ways(path):
    "Run one chapter in both ways; returns how many exercises it has."
    solved = nbformat.read(path, as_version=4)
    found = find_exercises(solved, path.stem)
    numbers = {e.number for e in found}
    if not found:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        folder, first = Path(folder), []
        if trains(
            solved
        ):  # the solved notebook trains; the learner's two find what it made, so that they stay short and equal
            trained = kept.folder_for(path.stem) or folder / "trained"
            source = KEEP.format(
                scripts=str(ROOT / "scripts"), folder=str(trained)
            )
            first = [nbformat.v4.new_code_cell(source)]
            again = copy.deepcopy(solved)
            again.cells = first + again.cells
            solved.cells = execute(
                again, folder, folder / "solved.jsonl"
            ).cells[1:]

        nb = make_learner(solved, path.stem)  # all solutions filled in
        for cell in nb.cells:
            if key(cell).endswith(" exercise"):
                cell.source = next(
                    e.source
                    for e in found
                    if f"{e.number} exercise" == key(cell)
                )
        nb.cells = copy.deepcopy(first) + nb.cells
        nb = execute(nb, folder, folder / "a.jsonl")
        assert states(folder / "a.jsonl") == dict.fromkeys(numbers, "solved"), (
            path.stem,
            states(folder / "a.jsonl"),
        )
        results = {
            key(c): printed(c) for c in nb.cells if c.cell_type == "code"
        }
        for e in found:
            assert (
                f"Exercise {e.number}: solved." in results[f"{e.number} check"]
            ), (e.number, results[f"{e.number} check"])
        differ = [
            f"{path.stem}, {c.id}:\n  solved:  {printed(c)!r}\n  learner: {results[f'cell {c.id}']!r}"
            for c in solved.cells
            if c.cell_type == "code"
            and printed(c) != results.get(f"cell {c.id}", printed(c))
        ]
        assert not differ, "\n".join(differ)

        nb = make_learner(
            solved, path.stem
        )  # nothing written, the reference used: the first time a check stops the run, the second time it does not
        cells = []
        for cell in nb.cells:
            cells.append(cell)
            if key(cell).endswith(" check"):
                check = copy.deepcopy(cell)
                cell.metadata["tags"] = ["raises-exception"]
            if key(cell).endswith(" go on"):
                cell.source = re.sub(
                    r"^# (use_reference\(.*?\))   #.*", r"\1", cell.source
                )
                check.id, check.metadata["course"] = f"{check.id}-2", {}
                cells.append(check)
        nb.cells = copy.deepcopy(first) + cells
        nb = execute(nb, folder, folder / "b.jsonl")
        for e in found:
            check = next(c for c in nb.cells if key(c) == f"{e.number} check")
            [error] = [
                o for o in check.outputs if o.output_type == "error"
            ] or [None]
            assert (
                error
                and error.ename == "CheckFailed"
                and len(error.traceback) == 1
            ), (e.number, check.outputs)
            assert ("not attempted" in error.evalue) != e.bug, (
                e.number,
                error.evalue,
            )
            second = next(c for c in nb.cells if c.id == f"{check.id}-2")
            assert "this is the reference, and it passes" in printed(second), (
                e.number,
                second.outputs,
            )
        assert states(folder / "b.jsonl") == dict.fromkeys(
            numbers, "reference"
        ), states(folder / "b.jsonl")
    return len(found)


def timed(path):
    start = time.time()
    n = both_ways(path)
    if n:
        print(
            f"{path.stem}: {n} exercises, {time.time() - start:.0f} s",
            flush=True,
        )
    return n


if __name__ == "__main__":
    start = time.time()
    assert (
        collect_references(ROOT / "nbs")
        == (
            json.dumps(references(), ensure_ascii=False, indent=1) + "\n"
        ).encode()
    ), "discrete_diffusion/exercises.json is stale: make export"
    order = {name: i for i, name in enumerate(LONG)}
    paths = sorted(
        [find_chapter(w) for w in sys.argv[1:]] or notebooks(),
        key=lambda p: order.get(p.stem, len(order)),
    )
    with ThreadPoolExecutor(min(4, processors())) as pool:
        jobs = [pool.submit(timed, p) for p in paths]
    said = [str(e) or type(e).__name__ for j in jobs if (e := j.exception())]
    if said:
        sys.exit("\n".join(said))
    n = sum(j.result() for j in jobs)
    print(
        f"learner's notebooks: {n} exercises solved, and {n} passed by, to the end of every notebook: {time.time() - start:.0f} s"
    )
