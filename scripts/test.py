"""Run every notebook and every file of tests/, each in a process of its own, then the checks on what is generated.

    test.py                      everything
    test.py 03_forward 10        these notebooks only
    test.py tests/test_tests.py  these files of tests only
    test.py --heavy yes          everything, and the scripts of scripts/heavy/
    test.py --seeds 3 03         with other seeds: 3 is added to every one in the notebook
"""
import argparse, ast, json, os, re, shutil, signal, sys, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import kept
import seeds
from bounded import IDLE, STOPPED, bounded, processors, stop
from fresh import code_hash, stale
from house import LIB, LONG, NBS, ROOT, find_chapter, imported, notebooks, parsed, settings, untidy

# Seconds of processor time, not on the clock: other programs may be at work beside it.
TIMEOUT = 300                       # for any other than those of LONG
HEAVY_TIMEOUT = 7200                # for a script of scripts/heavy/, which runs several notebooks at a time
PATIENCE = float(os.environ.get("TEST_PATIENCE", 1))    # a slow machine multiplies them

ONE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import seeds
seeds.shift(seeds.wanted())
if len(sys.argv) > 3:
    import kept
    sys.path.insert(1, str(Path(sys.argv[2]).parent))
    kept.keep(sys.argv[3])
del sys.path[0]
from nbdev.config import get_config
from nbdev.test import test_nb
passed, seconds = test_nb(Path(sys.argv[1]).resolve(), skip_flags=get_config().tst_flags.split(), basepath=get_config().config_path)
print("the notebook ran to its end" if passed else "the notebook failed")
"""


def notebook(path, seconds=TIMEOUT, threads=1, idle=IDLE, trained=None):
    "Run it; what it trains for long goes to the folder `trained`, where one is given."
    command = [sys.executable, "-c", ONE, str(path), str(Path(__file__).parent)]
    if trained is not None:
        command.append(str(trained))
    closing = "the notebook ran to its end"
    return bounded(
        command, seconds * PATIENCE, threads, closing=closing, idle=idle
    )


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
    summary = (out and out[0].splitlines() or [""])[-1]
    if failed is None and not re.search(r"\d+ \w+.* in [\d.]+s", summary):
        failed = f"{out[0]}\nit ended without saying what passed".strip()
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
                 hangs=["import time", "time.sleep(60)"], spins=["while True: pass"], kills_itself=["import os", "os._exit(0)"], passes=["import torch", "assert torch.get_num_threads() == 1"],
                 skips=["#| slow\nassert False", "#| eval: false\nassert False"])
    said = []
    with tempfile.TemporaryDirectory() as folder:
        for name, cells in cases.items():
            path = Path(folder) / f"{name}.ipynb"
            nbformat.write(new_notebook(cells=[new_code_cell(c) for c in cells]), path)
            failed = notebook(
                path,
                seconds=6 if name == "spins" else TIMEOUT,
                idle=5 if name == "hangs" else IDLE,
            )
            failed = failed is not None
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


def options():
    ask = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ask.add_argument("words", nargs="*", metavar="notebook or tests/file")
    ask.add_argument("--heavy", default="no", metavar="yes")
    ask.add_argument("--seeds", type=int, metavar="K")
    args = ask.parse_args()
    args.heavy = args.heavy.lower() in ("yes", "1", "true", "on")
    return args


def selected(words):
    "The notebooks and the files of tests that are meant; all, where none is named."
    if not words:
        return notebooks(), test_files()
    names = [Path(word).name for word in words]
    files = [p for p in test_files() if p.name in names or p.stem in names]
    known = {name for p in files for name in (p.name, p.stem)}
    return [find_chapter(n) for n in names if n not in known], files


class Report:
    "Runs tests, prints a line for each, and counts."

    def __init__(self):
        self.results, self.start = [], time.time()

    def run(self, name, test, *args, counts=None, **kwargs):
        """One test: it returns what is wrong, and None, "" or [] where nothing is.

        A test that is several, such as a file of them, adds to the list
        `counts` which passed.
        """
        begun = time.time()
        if counts is not None:
            args = (*args, counts)
        try:
            said = test(*args, **kwargs)
        except Exception as e:
            said = f"{type(e).__name__}: {e}"
        if isinstance(said, list):
            said = "\n".join(said)
        self.results += [not said] if counts is None else counts
        if STOPPED:
            return
        verdict = "FAILED" if said else "ok    "
        line = f"{verdict}  {name:40s} {time.time() - begun:6.1f} s"
        lines = [line, *(said or "").splitlines()]
        print("\n    ".join(lines) + "\n", end="", flush=True)

    def close(self):
        "The closing lines; ends the program."
        if STOPPED:
            sys.exit("Stopped: the tests are not complete.")
        passed, seconds = sum(self.results), time.time() - self.start
        print(f"\n{seconds:.0f} s on {processors()} processors")
        print(f"{passed} passed, {len(self.results) - passed} failed")
        sys.exit(0 if self.results and all(self.results) else 1)


def main():
    args = options()
    sys.stdout.reconfigure(errors="replace")
    if args.seeds is not None:
        os.environ[seeds.NAME] = str(args.seeds)
    seeds.wanted()  # says so at once where it is no number
    chosen, files = selected(args.words)
    order = {name: i for i, name in enumerate(LONG)}
    chosen = sorted(chosen, key=lambda p: order.get(p.stem, len(order)))
    report = Report()
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    with tempfile.TemporaryDirectory() as trained:
        if args.heavy:
            os.environ[kept.NAME] = trained
        run_tests(report, chosen, files, [] if args.words else CHECKS)
        if args.heavy:
            run_heavy(report, files)
    report.close()


def together(report, jobs, places):
    "Run jobs, so many at a time: each is (name, function, arguments, options)."
    with ThreadPoolExecutor(places) as pool:
        running = [
            pool.submit(report.run, name, test, *args, **more)
            for name, test, args, more in jobs
        ]
    for job in running:
        job.result()


def run_tests(report, chosen, files, checks):
    "Notebooks, files of tests and checks."
    jobs = []
    for path in chosen:  # the longest first: none is left over at the end
        more = {}
        if path.stem in LONG:
            more = dict(trained=kept.folder_for(path.stem))
        seconds = LONG.get(path.stem, TIMEOUT)
        jobs.append((path.stem, notebook, (path, seconds), more))
    for path in files:
        more = dict(counts=[])
        jobs.append((f"tests/{path.stem}", file_of_tests, (path,), more))
    jobs += [(name, check, (), {}) for name, check in checks]
    together(report, jobs, min(4, processors()))


SITE = ["pages", "reader"]  # they share the built site: one after the other
SPREAD = ["learners"]  # takes all processors by itself
QUIET = ["lab"]  # waits for a browser, as a learner would


def run_heavy(report, files):
    "The long tests: two at a time where they take one processor each."
    seconds = HEAVY_TIMEOUT * PATIENCE
    scripts = {p.stem: p for p in (ROOT / "scripts" / "heavy").glob("*.py")}

    def script(name):
        command = [sys.executable, str(scripts[name])]
        report.run(f"heavy/{name}", bounded, command, seconds, cwd=ROOT)

    def long_tests(path):
        more = dict(counts=[], seconds=seconds, long=True)
        report.run(f"tests/{path.stem}, long", file_of_tests, path, **more)

    def site_and_long_tests():
        for name in SITE:
            script(name)
        for path in files:
            if "mark.heavy" in path.read_text(encoding="utf-8"):
                long_tests(path)

    others = sorted(scripts.keys() - {*SITE, *SPREAD, *QUIET})
    with ThreadPoolExecutor(min(2, processors())) as pool:
        jobs = [pool.submit(site_and_long_tests)]
        jobs += [pool.submit(script, name) for name in others]
    for job in jobs:
        job.result()
    for name in SPREAD + QUIET:
        script(name)


if __name__ == "__main__":
    main()
