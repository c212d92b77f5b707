"""The learner's notebooks run to their end, in two ways.

    learners.py               every notebook that has exercises
    learners.py 03_forward    these only

Solved: the reference pasted into every exercise, as a learner would write it; each check says so, and the printed results are those of the same notebook
with its solutions in place. Skipped: nothing written; each check says that it is not attempted, and with the reference everything below runs.
"""
import copy, json, os, re, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
import nbformat
from nbclient import NotebookClient
from discrete_diffusion.exercises import collect_references, find_exercises, make_learner, references
from house import environment, find_chapter, notebooks

NUMBERS = re.compile(r"-?\d+\.?\d*(?:e[-+]?\d+)?")
CHANGES = re.compile(r"\b\d+(?:\.\d+)?\s?(?:ms|s|seconds|minutes|MB|GB)\b|0x[0-9a-f]+|\d+(?:\.\d+)?e-1\d\b")     # times, addresses, rounding: not results


def key(cell): return cell.metadata.get("course", {}).get("key", "")


def execute(nb, folder, progress):
    "Run it as JupyterLab would, from its own folder."
    env = dict(environment(1), DISCRETE_DIFFUSION_PROGRESS=str(progress), PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    NotebookClient(nb, timeout=1800, kernel_name="python3", resources={"metadata": {"path": str(folder)}}, store_widget_state=False, record_timing=False, extra_arguments=["--log-level=ERROR"]).execute(env=env)
    return nb


def printed(cell):
    "What a cell printed, without times and addresses."
    text = "".join(o.get("text", "") if o.output_type == "stream" else o.get("data", {}).get("text/plain", "") for o in cell.get("outputs", []))
    return CHANGES.sub("·", text)


def states(progress): return {e["number"]: e["state"] for e in map(json.loads, progress.read_text().splitlines())} if progress.exists() else {}


def both_ways(path):
    solved = nbformat.read(path, as_version=4); found = find_exercises(solved, path.stem); numbers = {e.number for e in found}
    if not found: return 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)

        nb = make_learner(solved, path.stem)                        # all solutions filled in
        for cell in nb.cells:
            if key(cell).endswith(" exercise"): cell.source = next(e.source for e in found if f"{e.number} exercise" == key(cell))
        nb = execute(nb, folder, folder / "a.jsonl")
        assert states(folder / "a.jsonl") == dict.fromkeys(numbers, "solved"), (path.stem, states(folder / "a.jsonl"))
        results = {key(c): printed(c) for c in nb.cells if c.cell_type == "code"}
        for e in found: assert f"Exercise {e.number}: solved." in results[f"{e.number} check"], (e.number, results[f"{e.number} check"])
        differ = [f"{path.stem}, {c.id}:\n  solved:  {printed(c)!r}\n  learner: {results[f'cell {c.id}']!r}" for c in solved.cells if c.cell_type == "code" and printed(c) != results.get(f"cell {c.id}", printed(c))]
        assert not differ, "\n".join(differ)

        nb = make_learner(solved, path.stem)                        # nothing written, the reference used; the first time a check stops the run
        for cell in nb.cells:
            if key(cell).endswith(" check"): cell.metadata["tags"] = ["raises-exception"]
            if key(cell).endswith(" go on"): cell.source = re.sub(r"^# (use_reference\(.*?\))   #.*", r"\1", cell.source)
        again = copy.deepcopy(nb)
        nb = execute(nb, folder, folder / "b.jsonl")
        for e in found:
            check = next(c for c in nb.cells if key(c) == f"{e.number} check")
            [error] = [o for o in check.outputs if o.output_type == "error"] or [None]
            assert error and error.ename == "CheckFailed" and len(error.traceback) == 1, (e.number, check.outputs)
            assert "not attempted" in error.evalue or "NotImplementedError" not in e.given and "..." not in e.given, (e.number, error.evalue)
        assert states(folder / "b.jsonl") == dict.fromkeys(numbers, "reference"), states(folder / "b.jsonl")

        for cell in again.cells: cell.metadata.pop("tags", None)
        for cell in list(again.cells):                              # and once more from the top: now no check stops it, unless it is given code with a bug
            e = next((e for e in found if key(cell) == f"{e.number} check"), None)
            if e and "NotImplementedError" not in e.given and "..." not in e.given: again.cells.remove(cell)
        if os.environ.get("LEARNERS_AGAIN", "yes") == "yes": execute(again, folder, folder / "b.jsonl")
    return len(found)


if __name__ == "__main__":
    start, n = time.time(), 0
    assert collect_references(ROOT / "nbs") == (json.dumps(references(), ensure_ascii=False, indent=1) + "\n").encode(), "discrete_diffusion/exercises.json is stale: make export"
    for path in [find_chapter(w) for w in sys.argv[1:]] or notebooks():
        n += both_ways(path)
    print(f"learner's notebooks: {n} exercises solved, and {n} passed by, to the end of every notebook: {time.time() - start:.0f} s")
