"""Checks that are checked: for every exercise the learner's stub is refused, the solution passes, each wrong answer of the bank hears its own sentence.

    check_exercises.py               every notebook
    check_exercises.py 03_forward    these only

Runs of each notebook only the cells that its exercises need, once, in a process of its own. Complaints are printed, a report is the last line.
The tests run a notebook once, from top to bottom (one.py), and ask its exercises on the way (`check_whole`).
"""

import ast
import dis
import io
import json
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import nbformat
import torch
from bounded import bounded, processors
from house import LIB, find_chapter, notebooks
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from discrete_diffusion import exercises as ex

LEAST_WRONG = 3  # wrong answers in a bank
SECONDS = 5  # of processor time, for one check
MOST_STATEMENTS = 22  # in a check
CORE = (
    "00_core",
    "03_forward",
    "04_posterior",
    "05_losses",
    "08_sampling",
    "10_d3pm",
)
# For the core path, reading (scripts/minutes.py) and exercises without extras.
MOST_HOURS = 10


def patience():
    "A slow or busy machine is given more time."
    return float(os.environ.get("TEST_PATIENCE", 1))


# Which cells need which


class Names(NamedTuple):
    "What a cell does with names."

    reads: set  # before it gives them a value
    gives: set  # a value
    changes: set  # the objects that they name


def names_of(cell):
    tree = ast.parse(cell)
    reads, gives = read_and_given(compile(tree, "cell", "exec"))
    changes = set()
    for node in ast.walk(tree):
        changes |= changed_by(node)
    return Names(reads, gives, changes)


def read_and_given(code):
    "Names that compiled code reads before it gives them a value, and names that it gives one; functions in it read later."
    reads, gives, later = set(), set(), set()
    for op in dis.get_instructions(code):
        if op.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            reads.add(f".{op.argval}")
        elif op.opname in ("STORE_NAME", "STORE_GLOBAL"):
            gives.add(op.argval)
        elif op.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
            reads |= {op.argval} - gives
    for const in code.co_consts:
        if isinstance(const, CodeType):
            inner_reads, inner_gives = read_and_given(const)
            later |= inner_reads
            gives |= inner_gives
    return reads | (later - gives), gives


def changed_by(node):
    "Names whose objects a piece of syntax changes, if it is one that does."
    match node:
        case ast.Attribute(ctx=ast.Store()) | ast.Subscript(ctx=ast.Store()):
            return root(node)  # x.a = ..., x[i] = ...
        case ast.Expr(value=ast.Call(func=ast.Attribute() as method)):
            return root(method)  # x.append(...)
        case ast.FunctionDef() if is_patch(node):
            return {f".{node.name}"} | patched(node)
    return set()


def root(node):
    "The name that stands first, x in x.a[i], if there is one."
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def is_patch(function):
    "@patch changes a class, and gives it .name"
    return any("patch" in ast.unparse(d) for d in function.decorator_list)


def patched(function):
    "The classes that a @patch changes: its first argument's annotation."
    for argument in function.args.args[:1]:
        if argument.annotation:
            nodes = ast.walk(argument.annotation)
            return {n.id for n in nodes if isinstance(n, ast.Name)}
    return set()


def has_imports(cell):
    body = ast.parse(cell).body
    return any(isinstance(n, (ast.Import, ast.ImportFrom)) for n in body)


def needed(cells, names, wanted):
    """Which cells must run so that the wanted ones can: all imports and patched methods; for each name that is read, the
    last cell above that gives it a value, and those between that change its object."""
    todo = [
        i
        for i, cell in cells.items()
        if i in wanted or has_imports(cell) or "@patch\n" in cell
    ]
    keep = set()
    while todo:
        i = todo.pop()
        if i in keep:
            continue
        keep.add(i)
        above = {j: names[j] for j in names if j < i}
        for name in names[i].reads:
            todo += where_from(name, above)
    return sorted(keep)


def where_from(name, above):
    "The last of these cells that gives a name its value, and those below it that change its object."
    given = [i for i, names in above.items() if name in names.gives][-1:]
    changed = [i for i, names in above.items() if name in names.changes]
    return given + [i for i in changed if not given or i > given[0]]


# One notebook


class Chapter:
    "A notebook as it is saved, its cells as plain Python, and its exercises. Raises ValueError where one is not whole."

    def __init__(self, path):
        from IPython.core.inputtransformer2 import TransformerManager

        self.path = path
        self.name = path.stem
        self.nb = nbformat.read(path, as_version=4)
        self.exercises = ex.find_exercises(self.nb, path.stem)
        self.transform = TransformerManager().transform_cell
        self.cells = {
            i: self.transform(ex._bare(cell.source))
            for i, cell in enumerate(self.nb.cells)
            if cell.cell_type == "code" and ex._bare(cell.source)
        }
        self.names = {i: names_of(cell) for i, cell in self.cells.items()}
        self.parts = {
            i: (kind, exercise)
            for exercise in self.exercises
            for kind, i in exercise.at.items()
            if kind != "task"
        }

    def check_of(self, exercise):
        return ex._bare(self.nb.cells[exercise.at["check"]].source)


class Examination:
    "What the exercises of a chapter say while its cells run, one after the other."

    def __init__(self, chapter):
        self.chapter, self.seconds = chapter, {}
        self.said = [*faults_as_written(chapter), *faults_of_banks(chapter)]
        ex.BANK.clear()

    def before(self, i, shell):
        "The learner's stub has its turn before the solution."
        kind, exercise = self.chapter.parts.get(i, (None, None))
        if kind == "exercise":
            with undisturbed(shell):
                self.said += faults_of_stub(self.chapter, exercise, shell)

    def after(self, i, took):
        "How long the cell took, in seconds of the processor."
        kind, exercise = self.chapter.parts.get(i, (None, None))
        if kind != "check":
            return
        self.seconds[exercise.number] = round(took, 2)
        if took > SECONDS * patience():
            self.said.append(
                f"{self.chapter.name}: the check of {exercise.number} takes {took:.1f} s, {SECONDS} are allowed"
            )

    def result(self):
        "Complaints, and a record for each exercise: number, wrong answers, caught, seconds of its check."
        records = records_of(self.chapter, self.seconds)
        return [*self.said, *faults_of_records(self.chapter, records)], records


@contextmanager
def undisturbed(shell):
    "What is drawn afterwards is what would have been drawn without it."
    named = shell.user_ns.values()
    generators = [v for v in named if isinstance(v, torch.Generator)]
    states = [generator.get_state() for generator in generators]
    with ex._global_seed(0):
        yield
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)


def check_notebook(path):
    "Complaints, and the records of the exercises, from the cells that they need."
    import matplotlib

    matplotlib.use("agg")
    try:
        chapter = Chapter(path)
    except ValueError as e:
        return [str(e)], []
    if not chapter.exercises:
        return [], []
    examination = Examination(chapter)
    examination.said += run_needed(chapter, examination)
    return examination.result()


def check_whole(path):
    """Runs the notebook from its first cell to its last, as nbdev_test does,
    and asks its exercises on the way. Did it pass, and complaints."""
    if "#| exercise" not in path.read_text(encoding="utf-8"):
        return run_whole(path), []
    try:
        chapter = Chapter(path)
    except ValueError as e:
        return False, [str(e)]
    examination = Examination(chapter)
    passed = run_whole(path, examination)
    return passed, examination.result()[0] if passed else examination.said


def run_whole(path, examination=None):
    "Did it pass? What stopped it is printed."
    import nbdev.test
    from execnb.shell import CaptureShell
    from nbdev.config import get_config

    class Shell(CaptureShell):
        def cell(self, cell, **options):
            examination.before(cell.idx_, self)
            start = time.process_time()
            super().cell(cell, **options)
            examination.after(cell.idx_, time.process_time() - start)

    nbdev.test.CaptureShell = Shell if examination else CaptureShell
    config = get_config()
    passed, _ = nbdev.test.test_nb(
        path,
        skip_flags=config.tst_flags.split(),
        basepath=config.config_path,
    )
    return passed


def faults_as_written(chapter):
    "What can be told without running anything."
    learner = ex.make_learner(chapter.nb, chapter.name)
    for leak in ex.leaks(learner, chapter.exercises):
        yield f"{chapter.name}: {leak}"
    for exercise in chapter.exercises:
        bank = chapter.nb.cells[exercise.at["wrong"]].source
        if not re.search(r"^#\|\s*hide\s*$", bank, re.M):
            yield f"{chapter.name}: the bank of {exercise.number} shows on the page, it needs a line #| hide"
        statements = statements_in(chapter.check_of(exercise))
        if statements > MOST_STATEMENTS:
            yield (
                f"{chapter.name}: the check of {exercise.number} has {statements} "
                "statements, about 12 are readable"
            )


def statements_in(check):
    "All but the definition of the check itself."
    nodes = ast.walk(ast.parse(check))
    return sum(isinstance(node, ast.stmt) for node in nodes) - 1


def faults_of_banks(chapter):
    "The learner's notebook has no banks: nothing may hang on their names."
    banks = {i: e for i, (kind, e) in chapter.parts.items() if kind == "wrong"}
    used = set()
    for i, names in chapter.names.items():
        if i not in banks:
            used |= names.reads | names.gives
    for i, exercise in banks.items():
        both = sorted(chapter.names[i].gives & used)
        if both:
            yield f"{chapter.name}: the bank of {exercise.number} gives a meaning to {', '.join(both)}, which other cells use"


def run_needed(chapter, examination):
    "Runs the cells that the exercises need; says which fail."
    from execnb.shell import CaptureShell

    shell = CaptureShell(chapter.path)
    os.chdir(chapter.path.parent)
    for i in needed(chapter.cells, chapter.names, set(chapter.parts)):
        kind, exercise = chapter.parts.get(i, (None, None))
        examination.before(i, shell)
        failed, took = run(shell, chapter.cells[i])
        if failed is not None:
            part = f" ({kind} of {exercise.number})" if exercise else ""
            yield f"{chapter.name}, cell {i}{part}: {type(failed).__name__}: {failed}"
            if not exercise:
                break
        examination.after(i, took)


def run(shell, source):
    "The exception, or None; and seconds of the processor, not of the clock: other programs may be at work beside it."
    start = time.process_time()
    shell.run(source, stdout=True)
    return shell.exc, time.process_time() - start


def faults_of_stub(chapter, exercise, shell):
    "What a learner hears who has done nothing yet."
    stub = chapter.transform(exercise.given)
    check = chapter.transform(chapter.check_of(exercise))
    failed = run(shell, stub)[0] or run(shell, check)[0]
    if not isinstance(failed, ex.CheckFailed):
        yield f"{chapter.name}: {exercise.number} does not refuse the stub: {type(failed).__name__}: {failed}"
    elif failed.stage != "not attempted" and not exercise.bug:
        yield f"{chapter.name}: {exercise.number}: the stub should hear that it is not attempted, it hears '{failed}'"


def records_of(chapter, seconds):
    "What the banks have counted, in the order of the exercises."
    records = {
        e.number: {
            "number": e.number,
            "wrong": 0,
            "caught": 0,
            "seconds": seconds.get(e.number, 0.0),
        }
        for e in chapter.exercises
    }
    for answer in ex.BANK:
        records[answer["number"]]["wrong"] += 1
        records[answer["number"]]["caught"] += answer["caught"]
    return list(records.values())


def faults_of_records(chapter, records):
    for r in records:
        if r["wrong"] < LEAST_WRONG:
            yield f"{chapter.name}: {r['number']} has {r['wrong']} wrong answers, {LEAST_WRONG} are the least"
        if r["caught"] < r["wrong"]:
            yield f"{chapter.name}: {r['number']}: {r['wrong'] - r['caught']} of {r['wrong']} wrong answers are not caught"


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
            + "\n    import time; end = time.process_time() + 0.6\n    while time.process_time() < end: pass"
        },
        "5 are allowed",
    ),
}


def is_red():
    "Exercises that must be complained about, and one that must not, in either way to run a notebook."
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"08_{n}.ipynb" for n in range(len(BROKEN))]
        for path, (change, _) in zip(paths, BROKEN.values(), strict=True):
            nbformat.write(chapter_of({**PARTS, **change}), path)
        # a tenth of the seconds that a check is allowed
        failed, printed = in_a_process(
            ["--whole", *paths], 120, {"TEST_PATIENCE": "0.1"}
        )
    if failed:
        return [failed]
    lines = [line for line in printed.splitlines() if line.startswith("[[")]
    said = []
    for (what, (_, says)), line in zip(BROKEN.items(), lines, strict=True):
        parts, whole = json.loads(line)
        for way, complaints in (("parts", parts), ("whole", whole)):
            if not as_expected(says, complaints):
                said.append(
                    f"{what}, {way}: expected {says!r}, got {complaints}"
                )
    return said


def chapter_of(parts):
    "A notebook with one exercise."
    return new_notebook(
        cells=[
            (new_markdown_cell if kind == "task" else new_code_cell)(source)
            for kind, source in parts.items()
        ]
    )


def as_expected(says, complaints):
    "Does one complaint say it? None: there is no complaint."
    if says is None:
        return not complaints
    return any(says in complaint for complaint in complaints)


# The list of exercises, and the hours of a path


def listed():
    "discrete_diffusion/exercises.json: every exercise by its number."
    return json.loads((LIB / "exercises.json").read_text(encoding="utf-8"))


def hours():
    "What the chapters say of themselves, added up; the core path has a limit."
    chapters = [
        p for p in notebooks() if p.name[:2].isdigit() and int(p.name[:2]) <= 18
    ]
    everything = hours_of(chapters)
    core = hours_of([p for p in chapters if p.stem in CORE])
    extras = sum(e["minutes"] for e in listed().values() if e["extra"])
    print(
        f"chapters 00 to 18: {everything:.1f} hours of reading and exercises, the core "
        f"path {core:.1f}; {extras} minutes of extras"
    )
    if core <= MOST_HOURS:
        return []
    return [
        f"the core path takes {core:.1f} hours, {MOST_HOURS} are wanted at most"
    ]


def hours_of(paths):
    "Reading, and exercises that are no extras."
    minutes = sum(map(minutes_to_read, paths))
    stems = {p.stem for p in paths}
    for exercise in listed().values():
        if exercise["chapter"] in stems and not exercise["extra"]:
            minutes += exercise["minutes"]
    return minutes / 60


def minutes_to_read(path):
    text = path.read_text(encoding="utf-8")
    return int(re.search(r"Minutes to read: (\d+)", text)[1])


# All notebooks


def check_all(paths=None, seconds=120):
    "Complaints about all exercises; prints the report."
    chapters = paths or notebooks()
    marked = [
        p for p in chapters if "#| exercise" in p.read_text(encoding="utf-8")
    ]
    with ThreadPoolExecutor(min(2, processors())) as pool:
        jobs = [pool.submit(report_on, path, seconds) for path in marked]
    said, records = [], []
    for job in jobs:
        complaints, made = job.result()
        said += complaints
        records += made
    if not said and not are_listed(records, chapters):
        said.append(
            "discrete_diffusion/exercises.json does not list the exercises of the notebooks: `make export` mends it"
        )
    if not paths:
        said += hours()
    print(summary(records), flush=True)
    return said


def report_on(path, seconds):
    "`check_notebook`, in a process of its own."
    failed, printed = in_a_process([path], seconds * patience())
    if failed is None:
        try:
            return json.loads(printed.splitlines()[-1])
        except (ValueError, IndexError):
            failed = "no report came back"
    return [f"{path.stem}: {failed}"], []


def in_a_process(words, seconds, env=None):
    "This script's `--report`: a sentence where it fails, or None; and what was printed."
    out = []
    command = [sys.executable, __file__, "--report", *map(str, words)]
    failed = bounded(command, seconds, 1, keep=out, env=env)
    return failed, "".join(out)


def report(words):
    "A line for each notebook, with what `check_notebook` says of it as JSON; the complaints of both ways for --whole."
    for path in [Path(w) for w in words if w != "--whole"]:
        made = check_notebook(path)
        if "--whole" in words:
            made = made[0], complaints_of_a_whole_run(path)
        print("\n" + json.dumps(made))


def complaints_of_a_whole_run(path):
    "What stops it is one of them."
    heard = io.StringIO()
    with redirect_stderr(heard):
        passed, said = check_whole(path)
    return said if passed else [*said, heard.getvalue()]


def are_listed(records, chapters):
    stems = {p.stem for p in chapters}
    wanted = [n for n, e in listed().items() if e["chapter"] in stems]
    return wanted == [r["number"] for r in records]


def summary(records):
    wrong = sum(r["wrong"] for r in records)
    caught = sum(r["caught"] for r in records)
    slowest = max((r["seconds"] for r in records), default=0)
    return f"exercises: {len(records)}, wrong answers: {wrong}, caught: {caught}; slowest check {slowest:.1f} s"


def main(words):
    if words[:1] == ["--report"]:
        return report(words[1:])
    start = time.time()
    said = check_all([find_chapter(w) for w in words])
    print("\n".join([*said, f"{time.time() - start:.0f} s"]))
    sys.exit(bool(said))


if __name__ == "__main__":
    main(sys.argv[1:])
