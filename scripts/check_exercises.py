"""Checks that are checked: for every exercise the learner's stub is refused, the solution passes, each wrong answer of the bank hears its own sentence.

    check_exercises.py               every notebook
    check_exercises.py 03_forward    these only

Runs of each notebook only the cells that its exercises need, once, in a process of its own. Complaints are printed, a report is the last line.
"""

import ast
import dis
import json
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from house import LIB, find_chapter, notebooks

LEAST_WRONG = 3  # wrong answers in a bank
SECONDS = 5  # of processor time, for one check
MOST_STATEMENTS = 22  # in a check


def names_of(cell):
    "Names that a cell reads before it gives them a value, names that it gives one, and names whose objects it changes."
    reads, gives, changes, inner = set(), set(), set(), set()

    def look(code, top):
        for op in dis.get_instructions(code):
            if op.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
                if op.argval not in gives:
                    (reads if top else inner).add(op.argval)
            elif op.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                reads.add(f".{op.argval}")
            elif op.opname in ("STORE_NAME", "STORE_GLOBAL"):
                gives.add(op.argval)
        for const in code.co_consts:
            if isinstance(const, type(code)):
                look(const, False)

    tree = ast.parse(cell)
    look(compile(tree, "cell", "exec"), True)
    root = lambda n: (
        root(n.value)
        if isinstance(n, (ast.Attribute, ast.Subscript, ast.Starred))
        else {n.id}
        if isinstance(n, ast.Name)
        else set()
    )
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(
            node.ctx, ast.Store
        ):
            changes |= root(node)  # x.a = ..., x[i] = ...
        if isinstance(node, ast.FunctionDef) and any(
            "patch" in ast.unparse(d) for d in node.decorator_list
        ):  # @patch changes a class, and gives .name
            changes |= {f".{node.name}"} | {
                n.id
                for a in node.args.args[:1]
                if a.annotation
                for n in ast.walk(a.annotation)
                if isinstance(n, ast.Name)
            }
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Call)
            and isinstance(node.value.func, ast.Attribute)
        ):
            changes |= root(node.value.func)  # x.append(...)
    return reads | (inner - gives), gives, changes


def needed(cells, wanted):
    """Which cells must run so that the wanted ones can: all imports; for each name that is read, the last cell above that
    gives it a value, and those between that change its object."""
    known = {i: names_of(c) for i, c in cells.items()}
    keep, todo = (
        set(),
        [
            i
            for i, c in cells.items()
            if i in wanted
            or any(
                isinstance(n, (ast.Import, ast.ImportFrom))
                for n in ast.parse(c).body
            )
        ],
    )
    while todo:
        i = todo.pop()
        if i in keep:
            continue
        keep.add(i)
        for name in known[i][0]:
            above = [j for j in known if j < i]
            given = [j for j in above if name in known[j][1]][-1:]
            todo += given + [
                j
                for j in above
                if name in known[j][2] and (not given or j > given[0])
            ]
    return sorted(keep)


def check_notebook(path):
    "Complaints, and a record for each exercise: number, wrong answers, caught, seconds of its check."
    import matplotlib
    import nbformat

    matplotlib.use("agg")
    from execnb.shell import CaptureShell
    from IPython.core.inputtransformer2 import TransformerManager

    from discrete_diffusion import exercises as ex

    nb = nbformat.read(path, as_version=4)
    try:
        found = ex.find_exercises(nb, path.stem)
    except ValueError as e:
        return [str(e)], []
    if not found:
        return [], []
    said = [
        f"{path.stem}: {s}"
        for s in ex.leaks(ex.make_learner(nb, path.stem), found)
    ]
    for e in found:
        if not re.search(
            r"^#\|\s*hide\s*$", nb.cells[e.at["wrong"]].source, re.M
        ):
            said.append(
                f"{path.stem}: the bank of {e.number} shows on the page, it needs a line #| hide"
            )
        tree = ast.parse(ex._bare(nb.cells[e.at["check"]].source))
        statements = sum(isinstance(n, ast.stmt) for n in ast.walk(tree)) - 1
        if statements > MOST_STATEMENTS:
            said.append(
                f"{path.stem}: the check of {e.number} has {statements} "
                f"statements, about 12 are readable"
            )
    transform = TransformerManager().transform_cell
    cells = {
        i: transform(ex._bare(c.source))
        for i, c in enumerate(nb.cells)
        if c.cell_type == "code" and ex._bare(c.source)
    }
    at = {
        i: (kind, e)
        for e in found
        for kind, i in e.at.items()
        if kind != "task"
    }
    names = {i: names_of(c) for i, c in cells.items()}
    for (
        i,
        (kind, e),
    ) in (
        at.items()
    ):  # the learner's notebook has no banks: nothing may hang on their names
        others = set().union(
            *(
                names[j][0] | names[j][1]
                for j in cells
                if j != i and at.get(j, ("",))[0] != "wrong"
            )
        )
        if kind == "wrong" and (both := names[i][1] & others):
            said.append(
                f"{path.stem}: the bank of {e.number} gives a meaning to {', '.join(sorted(both))}, which other cells use"
            )
    ex.BANK.clear()
    shell, records = (
        CaptureShell(path),
        {
            e.number: dict(number=e.number, wrong=0, caught=0, seconds=0.0)
            for e in found
        },
    )
    os.chdir(path.parent)

    def run(source):
        start = (
            time.process_time()
        )  # not the clock: other programs may be at work beside it
        shell.run(source, stdout=True)
        return shell.exc, time.process_time() - start

    for i in needed(cells, set(at)):
        kind, e = at.get(i, (None, None))
        if kind == "exercise":  # what a learner hears who has done nothing yet
            check = ex._bare(nb.cells[e.at["check"]].source)
            failed = run(transform(e.given))[0] or run(transform(check))[0]
            if not isinstance(failed, ex.CheckFailed):
                said.append(
                    f"{path.stem}: {e.number} does not refuse the stub: {type(failed).__name__}: {failed}"
                )
            elif failed.stage != "not attempted" and not e.bug:
                said.append(
                    f"{path.stem}: {e.number}: the stub should hear that it is not attempted, it hears '{failed}'"
                )
        failed, took = run(cells[i])
        if failed is not None:
            said.append(
                f"{path.stem}, cell {i}{f' ({kind} of {e.number})' if e else ''}: {type(failed).__name__}: {failed}"
            )
            if not e:
                break
        if kind == "check":
            records[e.number]["seconds"] = round(took, 2)
        if kind == "check" and took > SECONDS * float(
            os.environ.get("TEST_PATIENCE", 1)
        ):
            said.append(
                f"{path.stem}: the check of {e.number} takes {took:.1f} s, {SECONDS} are allowed"
            )
    for b in ex.BANK:
        records[b["number"]]["wrong"] += 1
        records[b["number"]]["caught"] += b["caught"]
    for r in records.values():
        if r["wrong"] < LEAST_WRONG:
            said.append(
                f"{path.stem}: {r['number']} has {r['wrong']} wrong answers, {LEAST_WRONG} are the least"
            )
        if r["caught"] < r["wrong"]:
            said.append(
                f"{path.stem}: {r['number']}: {r['wrong'] - r['caught']} of {r['wrong']} wrong answers are not caught"
            )
    return said, list(records.values())


# Red where an exercise is broken, or every line above means nothing.

PARTS = {
    "import": "from discrete_diffusion.exercises import *",
    "task": "### Exercise 8.1: twice\n\nWrite `twice(x)`.",
    "exercise": "#| exercise 8.1 twice ★ 1min\ndef twice(x):\n    'Two of them.'\n    return x + x",
    "check": "#| check 8.1\n@check_answer('8.1', twice)\ndef check(c, twice):\n    for x in c.each(x=[0, 1, 2]): c.close(twice(x), 2 * x, like={'the square': x ** 2})",
    "wrong": "#| hide\n#| wrong 8.1\nwrong_answer('8.1', 'the square', lambda x: x * x)\nwrong_answer('8.1', 'expected 2, got 1', lambda x: x)\nwrong_answer('8.1', 'expected 2, got 3', lambda x: 3 * x)",
}
BROKEN = {
    "passes": ({}, None),
    "a check that passes the stub": (
        {
            "check": "#| check 8.1\n@check_answer('8.1', twice)\ndef check(c, twice): pass"
        },
        "does not refuse the stub",
    ),
    "a solution that fails": (
        {"exercise": PARTS["exercise"].replace("x + x", "x + x + 1")},
        "Exercise 8.1, value",
    ),
    "a wrong answer that passes": (
        {
            "wrong": PARTS["wrong"]
            + "\nwrong_answer('8.1', '', lambda x: x * 2)"
        },
        "lets a wrong answer pass",
    ),
    "another sentence": (
        {"wrong": PARTS["wrong"].replace("the square", "the cube")},
        "should hear 'the cube'",
    ),
    "a small bank": (
        {
            "wrong": "#| hide\n#| wrong 8.1\nwrong_answer('8.1', 'the square', lambda x: x * x)"
        },
        "1 wrong answers, 3 are the least",
    ),
    "a bank that shadows": (
        {"wrong": PARTS["wrong"] + "\ntwice = 3"},
        "gives a meaning to twice",
    ),
    "a bank on the page": (
        {"wrong": PARTS["wrong"].replace("#| hide\n", "")},
        "shows on the page",
    ),
    "a leak": (
        {
            "exercise": PARTS["exercise"].replace(
                "x + x", "sum([x, x, 0 * x])"
            ),
            "task": PARTS["task"] + " As in `sum([x, x, 0 * x])`.",
        },
        "of its answer stands in 8.1 task",
    ),
    "a slow check": (
        {
            "check": PARTS["check"]
            + "\n    import time; end = time.process_time() + 6\n    while time.process_time() < end: pass"
        },
        "5 are allowed",
    ),
}


def is_red():
    "Exercises that must be complained about, and one that must not."
    import tempfile

    import nbformat
    from bounded import bounded
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    said = []
    with tempfile.TemporaryDirectory() as folder:
        for n, (what, (change, says)) in enumerate(BROKEN.items()):
            path = Path(folder) / f"08_{n}.ipynb"
            nbformat.write(
                new_notebook(
                    cells=[
                        (new_markdown_cell if k == "task" else new_code_cell)(v)
                        for k, v in {**PARTS, **change}.items()
                    ]
                ),
                path,
            )
        script = (
            ONE.replace("Path(sys.argv[1])", "p")
            .replace("print(", "[print(")
            .replace(
                "check_notebook(p)))",
                "check_notebook(p))) for p in sorted(Path(sys.argv[1]).glob('*.ipynb'))]",
            )
        )
        out = []
        failed = bounded(
            [sys.executable, "-c", script, folder, str(Path(__file__).parent)],
            120,
            1,
            keep=out,
        )
        if failed:
            return [failed]
        found = [
            json.loads(l)[0] for l in out[0].splitlines() if l.startswith("[[")
        ]
    for (what, (_, says)), complaints in zip(
        BROKEN.items(), found, strict=True
    ):
        if (
            (says is None) != (not complaints)
            or says
            and not any(says in c for c in complaints)
        ):
            said.append(f"{what}: expected {says!r}, got {complaints}")
    return said


CORE = (
    "00_core",
    "03_forward",
    "04_posterior",
    "05_losses",
    "08_sampling",
    "10_d3pm",
)
MOST_HOURS = 10  # for the core path, reading and exercises without extras


def hours():
    "What the chapters say of themselves, added up; the core path has a limit."
    parts = [
        p for p in notebooks() if p.name[:2].isdigit() and int(p.name[:2]) <= 18
    ]
    listed = json.loads(
        (LIB / "exercises.json").read_text(encoding="utf-8")
    ).values()

    def total(stems):
        reading = sum(
            int(
                re.search(
                    r"Minutes to read: (\d+)", p.read_text(encoding="utf-8")
                )[1]
            )
            for p in parts
            if p.stem in stems
        )
        doing = sum(
            e["minutes"]
            for e in listed
            if not e["extra"] and e["chapter"] in stems
        )
        return (reading + doing) / 60

    everything, core = total([p.stem for p in parts]), total(CORE)
    extras = sum(e["minutes"] for e in listed if e["extra"])
    print(
        f"chapters 00 to 18: {everything:.1f} hours of reading and exercises, the core "
        f"path {core:.1f}; {extras} minutes of extras"
    )
    if core <= MOST_HOURS:
        return []
    return [
        f"the core path takes {core:.1f} hours, {MOST_HOURS} are wanted at most"
    ]


def chapters_in_the_list():
    "The chapters whose exercises stand in discrete_diffusion/exercises.json."
    listed = json.loads((LIB / "exercises.json").read_text(encoding="utf-8"))
    return {exercise["chapter"] for exercise in listed.values()}


ONE = "import sys, json; sys.path.insert(0, sys.argv[2]); from check_exercises import *; print('\\n' + json.dumps(check_notebook(Path(sys.argv[1]))))"


def check_all(paths=None, seconds=120):
    "Complaints about all exercises; prints the report."
    from bounded import bounded, processors

    def one(path):
        out = []
        failed = bounded(
            [sys.executable, "-c", ONE, str(path), str(Path(__file__).parent)],
            seconds * float(os.environ.get("TEST_PATIENCE", 1)),
            1,
            keep=out,
        )
        try:
            if failed is None:
                return json.loads(out[0].splitlines()[-1])
        except (ValueError, IndexError):
            pass
        return [f"{path.stem}: {failed or 'no report came back'}"], []

    marked = [
        p
        for p in paths or notebooks()
        if "#| exercise" in p.read_text(encoding="utf-8")
    ]
    with ThreadPoolExecutor(min(2, processors())) as pool:
        reports = list(pool.map(one, marked))
    said, records = (
        [c for complaints, _ in reports for c in complaints],
        [r for _, made in reports for r in made],
    )
    listed = json.loads((LIB / "exercises.json").read_text(encoding="utf-8"))
    listed = [
        n
        for n, e in listed.items()
        if e["chapter"] in {p.stem for p in paths or notebooks()}
    ]
    if listed != [r["number"] for r in records] and not said:
        said.append(
            "discrete_diffusion/exercises.json does not list the exercises of the notebooks: `make export` mends it"
        )
    if not paths:
        said += hours()
    count = lambda k: sum(r[k] for r in records)
    print(
        f"exercises: {len(records)}, wrong answers: {count('wrong')}, caught: {count('caught')}; slowest check {max((r['seconds'] for r in records), default=0):.1f} s",
        flush=True,
    )
    return said


if __name__ == "__main__":
    start = time.time()
    said = check_all([find_chapter(w) for w in sys.argv[1:]])
    print("\n".join([*said, f"{time.time() - start:.0f} s"]))
    sys.exit(bool(said))
