"""Run every notebook and every file of tests/, each in a process of its own, then the checks on what is generated.

    test.py                      everything
    test.py 03_forward 10        these notebooks only
    test.py tests/test_tests.py  these files of tests only
    test.py --heavy yes          everything, and the scripts of scripts/heavy/
"""
import ast, json, os, re, shutil, signal, subprocess, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from fresh import code_hash, stale
from house import LIB, LONG, NBS, ROOT, environment, find_chapter, imported, notebooks, parsed, settings, untidy

TIMEOUT = 300                       # seconds for any other
HEAVY_TIMEOUT = 3600                # seconds for a script of scripts/heavy/
PATIENCE = float(os.environ.get("TEST_PATIENCE", 1))    # a slow machine multiplies them

ONE = """
import sys
from pathlib import Path
from nbdev.config import get_config
from nbdev.test import test_nb
passed, seconds = test_nb(Path(sys.argv[1]).resolve(), skip_flags=get_config().tst_flags.split(), basepath=get_config().config_path)
print("the notebook ran to its end" if passed else "the notebook failed")
"""


def processors(): return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


RUNNING, STOPPED = set(), []


def end(process):
    "A process with all that it started."
    try: os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, ProcessLookupError, PermissionError): process.kill()


def stop(*_):
    "Ctrl-C or a polite kill: nothing is left running."
    STOPPED.append(True)
    for process in list(RUNNING): end(process)


def bounded(command, seconds, threads=None, cwd=NBS, closing="", keep=None):
    """Run it in a process group of its own, which ends with it: None when it passed, else what it said.

    Passed: exit status 0, in time, and its last line is `closing` where one is given. What it said is added to the list `keep`.
    """
    if STOPPED: return "not run"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=cwd, env=environment(threads), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        RUNNING.add(process); late = False
        try: process.wait(seconds)
        except subprocess.TimeoutExpired: late = True
        finally: end(process); RUNNING.discard(process)
        process.wait(); log.seek(0); out = log.read()
    out = re.sub(r"\x1b\[[0-9;]*m", "", out.decode("utf-8", "replace")).rstrip()
    if keep is not None: keep.append(out)
    if process.returncode == 0 and not late and out.endswith(closing): return None
    tail = "\n".join(out.splitlines()[-40:])
    why = f"not done after {seconds:.0f} seconds" if late else f"exit status {process.returncode}"
    return f"{tail}\n{why}".strip()


def notebook(path, seconds=TIMEOUT, threads=1):
    return bounded([sys.executable, "-c", ONE, str(path)], seconds * PATIENCE, threads, closing="the notebook ran to its end")


def test_files():
    return sorted((ROOT / "tests").glob("test_*.py"))


def file_of_tests(path, counts, seconds=TIMEOUT, long=False):
    """A file of tests/ under pytest, without its long tests or those alone.

    Adds True for each test that passed and False for each that failed to `counts`.
    """
    words = ["--heavy", "-m", "heavy"] if long else []
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    out = []
    failed = bounded(
        [*command, str(path), *words], seconds * PATIENCE, 1, ROOT, keep=out
    )
    summary = out[0].splitlines()[-1] if out and out[0] else ""
    number = {
        word: sum(int(n) for n in re.findall(rf"(\d+) {word}", summary))
        for word in ("passed", "failed", "error")
    }
    red = number["failed"] + number["error"]
    counts += [True] * number["passed"]
    counts += [False] * max(red, 1 if failed else 0)
    return failed


# The runner itself: it must be red where a notebook is broken, or every line above means nothing.

def runner_is_red():
    "Notebooks that must fail, and one that must pass."
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook
    cases = dict(assert_fails=["assert 1 + 1 == 3"], does_not_parse=["x = = 1"], late_failure=["x = 1", "print(x)", "y"],
                 hangs=["import time", "time.sleep(60)"], kills_itself=["import os", "os._exit(0)"], passes=["import torch", "assert torch.get_num_threads() == 1"],
                 skips=["#| slow\nassert False", "#| eval: false\nassert False"])
    said = []
    with tempfile.TemporaryDirectory() as folder:
        for name, cells in cases.items():
            path = Path(folder) / f"{name}.ipynb"
            nbformat.write(new_notebook(cells=[new_code_cell(c) for c in cells]), path)
            failed = notebook(path, seconds=3 if name == "hangs" else TIMEOUT) is not None
            if failed == (name in ("passes", "skips")): said.append(f"a notebook that {name.replace('_', ' ')} came out {'red' if failed else 'green'}")
    return said


# Exercises: scripts/check_exercises.py, and that it is red where an exercise is broken.

def exercises_are_checked():
    from check_exercises import check_all, is_red
    return is_red() + check_all()


# What is generated must be what stands. Checked on a copy, so that nothing of the learner's changes.

def generated_is_current():
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        shutil.copy(ROOT / "settings.ini", top)
        for source, pattern in [(NBS, "*.ipynb"), (ROOT / "scripts", "*.py")]:
            (top / source.name).mkdir()
            for p in source.glob(pattern): shutil.copy(p, top / source.name)
        (top / LIB.name).mkdir()        # empty but for the start of the package: a module whose notebook is gone shows
        shutil.copy(LIB / "__init__.py", top / LIB.name)
        broken = bounded([sys.executable, "scripts/export.py"], TIMEOUT * PATIENCE, 1, cwd=top)
        if broken: return [f"`make export` fails:\n{broken}"]
        stands = {p.relative_to(ROOT): p.read_bytes() for p in [*notebooks(), *LIB.glob("*.py"), LIB / "exercises.json", ROOT / "README.md"] if p.exists()}
        made = {p.relative_to(top): p.read_bytes() for p in [*top.glob("nbs/*.ipynb"), *top.glob(f"{LIB.name}/*.py"), top / LIB.name / "exercises.json", top / "README.md"]}
    said = []
    for name in sorted(stands.keys() | made.keys()):
        what = "has no notebook" if name not in made else "is missing" if name not in stands else "is stale"
        if stands.get(name) != made.get(name): said.append(f"{name} {what}: `make export` mends it" if what != "has no notebook" else f"{name} {what}: delete it")
    return said


# Imports run only forward, in the order in which a reader meets the modules.

def imports_run_forward():
    "A chapter sees earlier chapters and the modules behind the course (90 and up), which see only core and one another."
    number, code = {}, {}
    for path in notebooks():
        cells = ["".join(c["source"]) for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
        module = next((m[1] for c in cells if (m := re.search(r"^#\|\s*default_exp\s+(\w+)", c, re.M))), None)
        place = int(path.name[:2]) if path.name[:2].isdigit() else 99
        if module: number[module] = place
        code[path.name] = place, cells
        if module and (LIB / f"{module}.py").exists(): code[f"{module}.py"] = place, [(LIB / f"{module}.py").read_text(encoding="utf-8")]
    said = []
    for name, (place, cells) in code.items():
        for cell in cells:
            try: tree = parsed(cell) if name.endswith(".ipynb") else ast.parse(cell)
            except SyntaxError as e: said.append(f"{name}: a cell that does not parse: {e}"); continue
            for module in imported(tree):
                there = number.get(module)
                if there is None:
                    if not (LIB / f"{module}.py").exists(): said.append(f"{name} imports {module}, which no notebook exports")
                    continue
                if place >= 90: allowed = name.endswith(".ipynb") or there >= 90 or there == 0     # their pages may show the whole course
                else: allowed = there < place or there >= 90 or (there == place and name.endswith(".ipynb"))
                if not allowed: said.append(f"{name} imports {module}, which comes later")
    return sorted(set(said))


# What a learner without the repository installs must bring every package that is imported.

def imports_are_required():
    "The library's packages stand in `requirements`; those that the cells of the chapters import beside them, in `learn_requirements`."
    from importlib import metadata
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
    named = {k: {canonicalize_name(Requirement(r).name) for r in settings()[k].split()} for k in ("requirements", "learn_requirements")}
    brought, said = metadata.packages_distributions(), set()

    def look(where, nodes, kinds):
        for node in nodes:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for top in {n.split(".")[0] for n in names} - set(sys.stdlib_module_names) - {LIB.name}:
                if not any(canonicalize_name(d) in named[k] for d in brought.get(top, []) for k in kinds): said.add(f"{where} imports {top}, which no package of {' or '.join(kinds)} in settings.ini brings")

    for path in LIB.glob("*.py"): look(path.name, ast.parse(path.read_text(encoding="utf-8")).body, ["requirements"])
    for path in notebooks():
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code": look(path.name, ast.walk(parsed("".join(cell["source"]))), list(named))
    return sorted(said)


# Every version in constraints.txt must be one for the oldest Python that the course names, its first release included.

def versions_fit():
    from importlib import metadata
    from packaging.specifiers import SpecifierSet
    oldest = settings()["min_python"] + ".0"
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M))
    said = []
    for d in metadata.distributions():
        name, needs = d.metadata["Name"], d.metadata["Requires-Python"]
        if pins.get(name) == d.version.split("+")[0] and needs and not SpecifierSet(needs).contains(oldest): said.append(f"constraints.txt: {name}=={pins[name]} needs Python {needs}, the course says {oldest}")
    return said


# Saved outputs must come from the code that stands; and the hash must see what changes a result, and nothing else.

def outputs_are_fresh():
    nb = {"cells": [{"cell_type": "code", "source": ["from discrete_diffusion.forward import *\n", "def f():\n", "    'One.'\n", "    return 1  # one"]}]}
    def changed(old, new): return code_hash(json.loads(json.dumps(nb).replace(old, new))) != code_hash(nb)
    red = {"a comment from code": not changed("# one", "# 1"), "a docstring from code": not changed("'One.'", "'1.'"), "a number": changed("return 1", "return 2"), "an import": changed("forward", "posterior")}
    return [f"the hash of a notebook's code does not tell {what}" for what, fine in red.items() if not fine] + stale(notebooks())


def notebooks_are_tidy(): return [f"{p.name}, {complaint}" for p in notebooks() for complaint in untidy(p)]


CHECKS = [("the runner is red on broken notebooks", runner_is_red), ("generated files are current", generated_is_current),
          ("imports run only forward", imports_run_forward), ("imports are required", imports_are_required), ("notebooks are tidy", notebooks_are_tidy), ("outputs are as new as their code", outputs_are_fresh),
          ("exercises: their checks are checked", exercises_are_checked), ("pinned versions serve the oldest Python", versions_fit)]


def main():
    words = sys.argv[1:]
    sys.stdout.reconfigure(errors="replace")
    heavy = "--heavy" in words and words[words.index("--heavy") + 1].lower() in ("yes", "1", "true", "on")
    if "--heavy" in words:
        at = words.index("--heavy"); del words[at:at + 2]
    files = [p for p in test_files() if p.name in [Path(w).name for w in words]] if words else test_files()
    chosen = [find_chapter(w) for w in words if Path(w).name not in [p.name for p in files]] if words else notebooks()
    start, results = time.time(), []

    def timed(name, test, *args, counts=None, **kwargs):
        begun = time.time()
        if counts is not None: args = (*args, counts)
        try: said = test(*args, **kwargs)
        except Exception as e: said = f"{type(e).__name__}: {e}"
        said = "\n".join(said) if isinstance(said, list) else said
        results.extend([not said] if counts is None else counts or [True] * (not said))
        if STOPPED: return
        line = f"{'FAILED' if said else 'ok    '}  {name:40s} {time.time() - begun:6.1f} s"
        print("\n    ".join([line, *(said or "").splitlines()]) + "\n", end="", flush=True)

    signal.signal(signal.SIGINT, stop); signal.signal(signal.SIGTERM, stop)
    with ThreadPoolExecutor(min(4, processors())) as pool:
        order = {name: i for i, name in enumerate(LONG)}            # the longest first: none is left over at the end
        jobs = [pool.submit(timed, path.stem, notebook, path, LONG.get(path.stem, TIMEOUT)) for path in sorted(chosen, key=lambda p: order.get(p.stem, len(order)))]
        jobs += [pool.submit(timed, f"tests/{path.stem}", file_of_tests, path, counts=[]) for path in files]
        if not words: jobs += [pool.submit(timed, name, check) for name, check in CHECKS]
    for job in jobs: job.result()
    if heavy:
        for path in files:
            if "mark.heavy" in path.read_text(encoding="utf-8"):
                timed(f"tests/{path.stem}, long", file_of_tests, path, counts=[], seconds=HEAVY_TIMEOUT, long=True)
        for path in sorted((ROOT / "scripts" / "heavy").glob("*.py")):
            timed(f"heavy/{path.stem}", bounded, [sys.executable, str(path)], HEAVY_TIMEOUT * PATIENCE, cwd=ROOT)
    if STOPPED: sys.exit("Stopped: the tests are not complete.")
    print(f"\n{time.time() - start:.0f} s on {processors()} processors\n{sum(results)} passed, {len(results) - sum(results)} failed")
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__": main()
