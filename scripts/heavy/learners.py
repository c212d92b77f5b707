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
    "What is recorded of each exercise."
    if not progress.exists():
        return {}
    entries = map(json.loads, progress.read_text().splitlines())
    return {entry["number"]: entry["state"] for entry in entries}


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
    if not found:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        folder, first = Path(folder), []
        if trains(solved):
            first = [keeping(path, folder)]
            solved = trained_once(solved, first, folder)
        runs_solved(path.stem, solved, found, first, folder)
        runs_skipped(path.stem, solved, found, first, folder)
    return len(found)


def keeping(path, folder):
    "A cell for the top of a notebook that trains: what it trains is kept, for all its runs."
    trained = kept.folder_for(path.stem) or folder / "trained"
    scripts = str(ROOT / "scripts")
    source = KEEP.format(scripts=scripts, folder=str(trained))
    return nbformat.v4.new_code_cell(source)


def trained_once(solved, first, folder):
    "The solved notebook with outputs of a run here; the learner's two find what it made, so that they stay short and equal."
    again = copy.deepcopy(solved)
    again.cells = first + again.cells
    solved.cells = execute(again, folder, folder / "solved.jsonl").cells[1:]
    return solved


def runs_solved(name, solved, found, first, folder):
    "With all solutions filled in it prints what the solved notebook prints."
    nb = make_learner(solved, name)
    sources = {f"{e.number} exercise": e.source for e in found}
    for cell in nb.cells:
        if key(cell).endswith(" exercise"):
            cell.source = sources[key(cell)]
    nb.cells = copy.deepcopy(first) + nb.cells
    progress = folder / "a.jsonl"
    nb = execute(nb, folder, progress)
    all_are("solved", name, found, progress)
    results = {key(c): printed(c) for c in nb.cells if c.cell_type == "code"}
    for e in found:
        said = results[f"{e.number} check"]
        assert f"Exercise {e.number}: solved." in said, (e.number, said)
    differ = []
    for cell in solved.cells:
        wanted = printed(cell)
        got = results.get(f"cell {cell.id}", wanted)
        if cell.cell_type == "code" and got != wanted:
            differ.append(
                f"{name}, {cell.id}:\n  solved:  {wanted!r}\n  learner: {got!r}"
            )
    assert not differ, "\n".join(differ)


def all_are(state, name, found, progress):
    wanted = dict.fromkeys((e.number for e in found), state)
    got = states(progress)
    assert got == wanted, (name, got)


def runs_skipped(name, solved, found, first, folder):
    "Nothing written, and the reference used."
    nb = make_learner(solved, name)
    nb.cells = copy.deepcopy(first) + checked_twice(nb.cells)
    progress = folder / "b.jsonl"
    nb = execute(nb, folder, progress)
    for e in found:
        check = next(c for c in nb.cells if key(c) == f"{e.number} check")
        second = next(c for c in nb.cells if c.id == f"{check.id}-2")
        is_not_attempted(e, check)
        said = printed(second)
        assert "this is the reference, and it passes" in said, (e.number, said)
    all_are("reference", name, found, progress)


def checked_twice(cells):
    "The first time a check stops the run; then the reference is used, and the second time it does not."
    cells_and_checks = []
    for cell in cells:
        cells_and_checks.append(cell)
        if key(cell).endswith(" check"):
            check = copy.deepcopy(cell)
            cell.metadata["tags"] = ["raises-exception"]
        if key(cell).endswith(" go on"):
            cell.source = re.sub(
                r"^# (use_reference\(.*?\))   #.*", r"\1", cell.source
            )
            check.id, check.metadata["course"] = f"{check.id}-2", {}
            cells_and_checks.append(check)
    return cells_and_checks


def is_not_attempted(exercise, check):
    "One sentence says so; a stub with a bug to find is an attempt."
    errors = [o for o in check.outputs if o.output_type == "error"]
    assert len(errors) == 1, (exercise.number, check.outputs)
    [error] = errors
    one_sentence = error.ename == "CheckFailed" and len(error.traceback) == 1
    assert one_sentence, (exercise.number, check.outputs)
    says_so = "not attempted" in error.evalue
    assert says_so != exercise.bug, (exercise.number, error.evalue)


def timed(path):
    start = time.time()
    n = both_ways(path)
    if n:
        print(
            f"{path.stem}: {n} exercises, {time.time() - start:.0f} s",
            flush=True,
        )
    return n


def list_is_current():
    listed = json.dumps(references(), ensure_ascii=False, indent=1) + "\n"
    return collect_references(ROOT / "nbs") == listed.encode()


def in_order(paths):
    "Those that train longest start first."
    order = {name: i for i, name in enumerate(LONG)}
    return sorted(paths, key=lambda p: order.get(p.stem, len(order)))


def main(words):
    start = time.time()
    assert list_is_current(), (
        "discrete_diffusion/exercises.json is stale: make export"
    )
    paths = in_order([find_chapter(w) for w in words] or notebooks())
    with ThreadPoolExecutor(min(4, processors())) as pool:
        jobs = [pool.submit(timed, p) for p in paths]
    said = [str(e) or type(e).__name__ for j in jobs if (e := j.exception())]
    if said:
        sys.exit("\n".join(said))
    n = sum(j.result() for j in jobs)
    print(
        f"learner's notebooks: {n} exercises solved, and {n} passed by, to the end of every notebook: {time.time() - start:.0f} s"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
