"""The learner's notebooks run to their end.

    learners.py                     every notebook that has exercises
    learners.py 03_forward          these only
    learners.py --whole             all that they print is compared, in chapters that train, too
    learners.py --whole 03_forward

Each exercise is met in three ways: the solution pasted, and the check says that it is solved; nothing written, and it says that it is not attempted; the reference used, and it
passes, and everything below runs with it. What is printed below is what the solved notebook shows. In a chapter that trains this holds for the cells above its first training,
since rounding differs by machine and grows there; `--whole` runs the solved notebook here first, and compares all. What trains for long is trained once (scripts/kept.py).
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
    "What a cell printed, without times, addresses and the last digits."
    text = "".join(
        o.get("text", "")
        if o.output_type == "stream"
        else o.get("data", {}).get("text/plain", "")
        for o in cell.get("outputs", [])
    )
    text = re.sub(r"\d\.\d{12,}", lambda m: f"{float(m[0]):.9f}", text)
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


def calls_training(cell):
    return (
        cell.cell_type == "code"
        and "def train_" not in cell.source
        and re.search(r"\b(train_text|train_digits)\(", cell.source)
    )


def trains(nb):
    return any(map(calls_training, nb.cells))


def one_chapter(path, whole=False):
    "Run one chapter; returns how many exercises it has."
    solved = nbformat.read(path, as_version=4)
    found = find_exercises(solved, path.stem)
    if not found:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        folder, first = Path(folder), []
        if trains(solved):
            first = [keeping(path, folder)]
            if whole:
                solved = run_here(solved, first, folder)
            else:
                forget_from_first_training(solved)
        meets_all(path, solved, found, first, folder)
    return len(found)


def keeping(path, folder):
    "A cell for the top of a notebook that trains: what it trains is kept, for all its runs."
    trained = kept.folder_for(path.stem) or folder / "trained"
    scripts = str(ROOT / "scripts")
    source = KEEP.format(scripts=scripts, folder=str(trained))
    return nbformat.v4.new_code_cell(source)


def run_here(solved, first, folder):
    "The solved notebook with the outputs of this machine."
    again = copy.deepcopy(solved)
    again.cells = copy.deepcopy(first) + again.cells
    solved.cells = execute(again, folder, folder / "solved.jsonl").cells[1:]
    return solved


def forget_from_first_training(nb):
    "Leave only the cells above the first training: what follows differs by machine."
    at = next(i for i, cell in enumerate(nb.cells) if calls_training(cell))
    del nb.cells[at:]


def meets_all(path, solved, found, first, folder):
    "Run the learner's notebook, each exercise in three ways."
    nb = make_learner(nbformat.read(path, as_version=4), path.stem)
    sources = {e.number: e.source for e in found}
    nb.cells = copy.deepcopy(first) + met(nb.cells, sources)
    progress = folder / "progress.jsonl"
    nb = execute(nb, folder, progress)
    for e in found:
        says_what_it_should(e, nb)
    wanted = {e.number: "reference" for e in found}
    assert states(progress) == wanted, (path.stem, states(progress))
    same_results(path.stem, solved, nb)


def met(cells, sources):
    "The three cells of each exercise, run in three ways."
    out, exercise, check = [], None, None
    for cell in cells:
        number, _, part = key(cell).partition(" ")
        if part == "exercise":
            exercise = cell
        elif part == "check":
            check = cell
        elif part == "go on":
            out += ways(exercise, check, cell, sources[number])
        else:
            out.append(cell)
    return out


def ways(exercise, check, go_on, solution):
    "The solution; nothing written; the reference."
    number = key(check).partition(" ")[0]

    def copied(cell, what):
        cell = copy.deepcopy(cell)
        cell.id = f"{number}-{what}".replace(".", "-")
        return cell

    written = copied(exercise, "solution")
    written.source = solution
    untouched = copied(check, "not-attempted")
    untouched.metadata["tags"] = ["raises-exception"]
    use = copied(go_on, "use")
    use.source = re.sub(r"^# (use_reference\(.*?\))   #.*", r"\1", use.source)
    return [
        *(written, copied(check, "solved")),
        *(exercise, untouched),
        *(use, copied(check, "reference")),
    ]


def says_what_it_should(exercise, nb):
    "One sentence each: not attempted, the reference passes, solved."
    number, cells = exercise.number, {cell.id: cell for cell in nb.cells}
    beginning = number.replace(".", "-")
    is_not_attempted(exercise, cells[f"{beginning}-not-attempted"])
    said = printed(cells[f"{beginning}-reference"])
    assert "this is the reference, and it passes" in said, (number, said)
    said = printed(cells[f"{beginning}-solved"])
    assert f"Exercise {number}: solved." in said, (number, said)


def same_results(name, solved, nb):
    "What the solved notebook's cells print, the learner's print."
    results = {key(c): printed(c) for c in nb.cells if c.cell_type == "code"}
    differ = []
    for cell in solved.cells:
        wanted = printed(cell)
        got = results.get(f"cell {cell.id}", wanted)
        if cell.cell_type == "code" and got != wanted:
            differ.append(
                f"{name}, {cell.id}:\n  solved:  {wanted!r}\n  learner: {got!r}"
            )
    assert not differ, "\n".join(differ)


def is_not_attempted(exercise, check):
    "One sentence says so; a stub with a bug to find is an attempt."
    errors = [o for o in check.outputs if o.output_type == "error"]
    assert len(errors) == 1, (exercise.number, check.outputs)
    [error] = errors
    one_sentence = error.ename == "CheckFailed" and len(error.traceback) == 1
    assert one_sentence, (exercise.number, check.outputs)
    says_so = "not attempted" in error.evalue
    assert says_so != exercise.bug, (exercise.number, error.evalue)


def timed(path, whole):
    start = time.time()
    n = one_chapter(path, whole)
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
    start, whole = time.time(), "--whole" in words
    assert list_is_current(), (
        "discrete_diffusion/exercises.json is stale: make export"
    )
    named = [find_chapter(w) for w in words if w != "--whole"]
    with ThreadPoolExecutor(min(4, processors())) as pool:
        paths = in_order(named or notebooks())
        jobs = [pool.submit(timed, p, whole) for p in paths]
    said = [str(e) or type(e).__name__ for j in jobs if (e := j.exception())]
    if said:
        sys.exit("\n".join(said))
    n = sum(j.result() for j in jobs)
    print(
        f"learner's notebooks: {n} exercises met in three ways, to the end of every notebook: {time.time() - start:.0f} s"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
