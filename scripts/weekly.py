"""What the weekly jobs do. A job leaves what was said in runs/weekly/.

weekly.py newest         the tests, with the newest releases in the ranges of settings.ini, in an environment of their own
weekly.py newest 00 03   these notebooks only
weekly.py colab          the first cell for Colab and every chapter, with the versions that Colab has today
weekly.py seeds          all notebooks that do not train, with every seed shifted by 1, 2, 3, 4 and 5
weekly.py seeds 00 03    these notebooks only
weekly.py learners       the learners' notebooks, all that they print compared
weekly.py learners 00 03 these only
weekly.py tell FOLDER    what broke, from the reports of a folder: into the repository's open issue about it, or a new one (asks gh)
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from house import LONG, ROOT, environment, find_chapter, notebooks

FOLDER = ROOT / "runs" / "weekly"
COLAB = "https://raw.githubusercontent.com/googlecolab/backend-info/main/pip-freeze.txt"
TITLE = "The weekly run is red"
SHIFTS = range(1, 6)
MOST = 20_000  # characters of a report: an issue holds some 65,000


def run(log, *command, go_on=False):
    "Run it, show what it says, keep it: is its exit status 0? Ends the job where it is not, unless it is to go on."
    with subprocess.Popen(
        [str(c) for c in command],
        cwd=ROOT,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            log.write(line)
            log.flush()
    if process.returncode and not go_on:
        sys.exit(1)
    return process.returncode == 0


def tests(chapters):
    "The words after `python` that run these notebooks as tests; all tests where none is named."
    names = " or ".join(
        f"test_notebook[{find_chapter(c).stem}]" for c in chapters
    )
    which = ["tests/test_notebooks.py", "-k", names] if chapters else []
    return ["-m", "pytest", "-n", "auto", "--maxprocesses", "4", *which]


def newest(log, chapters):
    with tempfile.TemporaryDirectory() as top:
        run(log, sys.executable, "-m", "venv", top)
        python = Path(top) / (
            "Scripts/python.exe" if os.name == "nt" else "bin/python"
        )
        run(log, python, "-m", "pip", "install", "-q", "--upgrade", "pip")
        run(log, python, "-m", "pip", "install", "-q", "-e", ".[dev]")
        pins = dict(
            re.findall(
                r"^([\w.-]+)==(\S+)$",
                (ROOT / "constraints.txt").read_text(encoding="utf-8"),
                re.M,
            )
        )
        have = json.loads(
            subprocess.run(
                [python, "-m", "pip", "list", "--format=json"],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for d in have:
            pin = pins.get(d["name"])
            if pin and d["version"].split("+")[0] != pin:
                print(
                    f"{d['name']} {d['version']}, pinned {pin}",
                    file=log,
                    flush=True,
                )
        run(log, python, *tests(chapters))


def colab(log, chapters):
    with tempfile.TemporaryDirectory() as top:
        versions = Path(top) / "pip-freeze.txt"
        with urllib.request.urlopen(COLAB, timeout=60) as page:
            versions.write_bytes(page.read())
        run(
            log,
            sys.executable,
            "scripts/heavy/colab.py",
            "--versions",
            versions,
            *(chapters or ["all"]),
        )


def seeds(log, chapters):
    "What holds only for the seeds that stand in the notebooks turns red."
    light = chapters or [p.stem for p in notebooks() if p.stem not in LONG]
    passed = []
    for k in SHIFTS:
        print(f"seeds + {k}", flush=True)
        log.write(f"seeds + {k}\n")
        command = [sys.executable, *tests(light), "--seeds", str(k)]
        passed.append(run(log, *command, go_on=True))
    if not all(passed):
        sys.exit(1)


def learners(log, chapters):
    "What a learner sees below a solved exercise, in chapters that train, too."
    script = "scripts/heavy/learners.py"
    run(log, sys.executable, script, "--whole", *chapters)


def tell(folder):
    "One issue, and a comment for each week in which it stays red."

    def gh(*words, **options):
        return subprocess.run(
            ["gh", "issue", *words], cwd=ROOT, check=True, text=True, **options
        )

    address = "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}".format_map(
        os.environ
    )
    parts = [
        f"What follows is what the jobs said, without what passed. All of it: {address}"
    ]
    for path in sorted(Path(folder).glob("*.txt")):
        lines = [
            line
            for line in path.read_text(encoding="utf-8").splitlines()
            if not line.startswith(("ok ", "WARNING: "))
        ]
        parts.append(
            f"### {path.stem}\n\n````\n" + "\n".join(lines)[-MOST:] + "\n````"
        )
    body = "\n\n".join(parts)
    open_ones = json.loads(
        gh(
            "list",
            "--state",
            "open",
            "--search",
            f'"{TITLE}" in:title',
            "--json",
            "number,title",
            stdout=subprocess.PIPE,
        ).stdout
    )
    number = next(
        (str(i["number"]) for i in open_ones if i["title"] == TITLE), None
    )
    gh(
        *(["comment", number] if number else ["create", "--title", TITLE]),
        "--body-file",
        "-",
        input=body,
    )


def main():
    job, words = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if job == "tell":
        return tell(*words)
    jobs = dict(newest=newest, colab=colab, seeds=seeds, learners=learners)
    if job not in jobs:
        sys.exit(__doc__)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / f"{job}.txt", "w", encoding="utf-8") as log:
        try:
            jobs[job](log, words)
        except OSError as e:
            log.write(f"{e}\n")
            raise


if __name__ == "__main__":
    main()
