"The commands of the README beside `make test`: a chapter run into a folder, and JupyterLab answering at the address it prints."

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def make(*words, **options):
    return subprocess.Popen(
        ["make", "--no-print-directory", *words, f"PYTHON={sys.executable}"],
        cwd=ROOT,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )


def run_a_chapter():
    run = make("run", "CHAPTER=00_core")
    said = run.communicate()[0]
    made = [p.name for p in (ROOT / "runs" / "00_core").iterdir()]
    assert (
        run.returncode == 0
        and "00_core.ipynb" in made
        and any(n.endswith(".png") for n in made)
    ), said
    wrong = make("run", "CHAPTER=99_none")
    said = wrong.communicate()[0]
    assert (
        wrong.returncode != 0
        and "There is no chapter '99_none'" in said
        and "Traceback" not in said
    ), said


def start_the_course():
    learn = make("learn", "BROWSER=no", "PORT=8931", start_new_session=True)
    try:
        for line in learn.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+/\S+", line):
                break
        else:
            raise AssertionError("make learn printed no address")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            found[0], timeout=60
        ) as page:
            assert page.status == 200 and b"JupyterLab" in page.read()
    finally:
        os.killpg(learn.pid, signal.SIGINT)
        learn.communicate(timeout=300)


if __name__ == "__main__":
    start = time.time()
    run_a_chapter()
    start_the_course()
    print(
        f"make run and make learn: as the README says, {time.time() - start:.0f} s"
    )
