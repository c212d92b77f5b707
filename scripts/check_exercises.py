"""Checks that are checked: for every exercise the learner's stub is refused, the solution passes, each wrong answer of the bank hears its own sentence.

    check_exercises.py               every notebook
    check_exercises.py 03_forward    these only

Runs of each notebook only the cells that its exercises need, once, in a process of its own. Complaints are printed, a report is the last line.
"""
import ast, json, os, re, sys, time
from pathlib import Path
from house import NBS, environment, find_chapter, notebooks

LEAST_WRONG = 3         # wrong answers in a bank
SECONDS = 5             # for one check


def names_of(cell):
    "Names that a cell gives a value or changes, and names that it reads."
    gives, reads = set(), set()
    for node in ast.walk(ast.parse(cell)):
        if isinstance(node, ast.Name): (reads if isinstance(node.ctx, ast.Load) else gives).add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            gives.add(node.name)
            if isinstance(node, ast.FunctionDef) and any("patch" in ast.unparse(d) for d in node.decorator_list):      # @patch changes the class
                gives |= {n.id for a in node.args.args[:1] if a.annotation for n in ast.walk(a.annotation) if isinstance(n, ast.Name)}
        elif isinstance(node, (ast.Import, ast.ImportFrom)): gives |= {(a.asname or a.name).split(".")[0] for a in node.names}
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name): reads.add(node.target.id)
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Store):                        # x.a = ..., x[i] = ...
            gives |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return gives, reads


def needed(cells, wanted):
    "Which cells must run so that the wanted ones can: all imports, and whatever gives a name that a needed cell reads."
    known = {i: names_of(c) for i, c in cells.items()}
    keep = {i for i, c in cells.items() if i in wanted or all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(c).body)}
    while True:
        reads = {i: known[i][1] for i in keep}
        more = {j for j in known if j not in keep and any(j < i and known[j][0] & reads[i] for i in keep)}
        if not more: return sorted(keep)
        keep |= more


def check_notebook(path):
    "Complaints, and a record for each exercise: number, wrong answers, caught, seconds of its check."
    import matplotlib, nbformat
    matplotlib.use("agg")
    from execnb.shell import CaptureShell
    from IPython.core.inputtransformer2 import TransformerManager
    from discrete_diffusion import exercises as ex
    nb = nbformat.read(path, as_version=4)
    try: found = ex.find_exercises(nb, path.stem)
    except ValueError as e: return [str(e)], []
    if not found: return [], []
    said = [f"{path.stem}: {s}" for s in ex.leaks(ex.make_learner(nb, path.stem), found)]
    for e in found:
        if not re.search(r"^#\|\s*hide\s*$", nb.cells[e.at["wrong"]].source, re.M): said.append(f"{path.stem}: the bank of {e.number} shows on the page, it needs a line #| hide")
        lines = ex._bare(nb.cells[e.at["check"]].source).count("\n") + 1
        if lines > 16: said.append(f"{path.stem}: the check of {e.number} has {lines} lines, about 15 are readable")
    transform = TransformerManager().transform_cell
    cells = {i: transform(ex._bare(c.source)) for i, c in enumerate(nb.cells) if c.cell_type == "code" and ex._bare(c.source)}
    at = {i: (kind, e) for e in found for kind, i in e.at.items() if kind != "task"}
    shell, records = CaptureShell(path), {e.number: dict(number=e.number, wrong=0, caught=0, seconds=0.) for e in found}
    os.chdir(path.parent)

    def run(source):
        start = time.time(); shell.run(source, stdout=True)
        return shell.exc, time.time() - start

    for i in needed(cells, set(at)):
        kind, e = at.get(i, (None, None))
        if kind == "exercise":                                              # what a learner hears who has done nothing yet
            check = ex._bare(nb.cells[e.at["check"]].source)
            failed = run(transform(e.given))[0] or run(transform(check))[0]
            if not isinstance(failed, ex.CheckFailed): said.append(f"{path.stem}: {e.number} does not refuse the stub: {type(failed).__name__}: {failed}")
            elif failed.stage != "not attempted" and not given_bug(e): said.append(f"{path.stem}: {e.number}: the stub should hear that it is not attempted, it hears '{failed}'")
        failed, took = run(cells[i])
        if failed is not None:
            said.append(f"{path.stem}, cell {i}{f' ({kind} of {e.number})' if e else ''}: {type(failed).__name__}: {failed}")
            if not e: break
        if kind == "check": records[e.number]["seconds"] = round(took, 2)
        if kind == "check" and took > SECONDS * float(os.environ.get("TEST_PATIENCE", 1)): said.append(f"{path.stem}: the check of {e.number} takes {took:.1f} s, {SECONDS} are allowed")
    for b in ex.BANK:
        records[b["number"]]["wrong"] += 1; records[b["number"]]["caught"] += b["caught"]
    for r in records.values():
        if r["wrong"] < LEAST_WRONG: said.append(f"{path.stem}: {r['number']} has {r['wrong']} wrong answers, {LEAST_WRONG} are the least")
        if r["caught"] < r["wrong"]: said.append(f"{path.stem}: {r['number']}: {r['wrong'] - r['caught']} of {r['wrong']} wrong answers are not caught")
    return said, list(records.values())


def given_bug(e):
    "Does the learner start from code that runs (find the bug), so that the check has something to say about it?"
    return "NotImplementedError" not in e.given and not re.search(r"(?<!\.)\.\.\.(?!\.)", e.given)


ONE = "import sys, json; sys.path.insert(0, sys.argv[2]); from check_exercises import *; print('\\n' + json.dumps(check_notebook(Path(sys.argv[1]))))"


def check_all(paths=None, bounded=None, seconds=120):
    "Complaints about all exercises; prints the report."
    from test import bounded
    said, records = [], []
    for path in paths or notebooks():
        if "#| exercise" not in path.read_text(encoding="utf-8"): continue
        out = []
        failed = bounded([sys.executable, "-c", ONE, str(path), str(Path(__file__).parent)], seconds * float(os.environ.get("TEST_PATIENCE", 1)), 1, keep=out)
        try: complaints, made = json.loads(out[0].splitlines()[-1]) if failed is None else (None, None)
        except (ValueError, IndexError): complaints = None
        if complaints is None: said.append(f"{path.stem}: {failed or 'no report came back'}"); continue
        said += complaints; records += made
    from discrete_diffusion.exercises import references
    listed = [n for n, e in references().items() if e["chapter"] in {p.stem for p in paths or notebooks()}]
    if listed != [r["number"] for r in records] and not said: said.append("discrete_diffusion/exercises.json does not list the exercises of the notebooks: `make export` mends it")
    count = lambda k: sum(r[k] for r in records)
    print(f"exercises: {len(records)}, wrong answers: {count('wrong')}, caught: {count('caught')}; slowest check {max((r['seconds'] for r in records), default=0):.1f} s", flush=True)
    return said


if __name__ == "__main__":
    start = time.time()
    said = check_all([find_chapter(w) for w in sys.argv[1:]])
    print("\n".join([*said, f"{time.time() - start:.0f} s"]))
    sys.exit(bool(said))
