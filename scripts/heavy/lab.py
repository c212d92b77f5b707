"""The learner's path in a browser: `make learn` in a copy of the course, a chapter run in JupyterLab, an exercise written, a slider moved.

The chapter is 10_d3pm, whose first exercise is a slider that never moves: its check says so in one sentence, and once the function is mended the slider's picture changes.
Nothing of the learner's own is touched: the copy has its own work/, progress and settings.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import psutil
from chromium import chromium
from playwright.sync_api import expect

CHAPTER, NUMBER = "10_d3pm", "10.1"
WRONG, RIGHT = "return rows.argmax(-1)", "return draw(rows, generator)"
PATIENCE = (
    900_000 * float(os.environ.get("TEST_PATIENCE", 1))
)  # milliseconds until a run of the notebook is through, however busy the machine: what hangs is ended by scripts/bounded.py


@contextmanager
def course():
    "The address of JupyterLab, started by `make learn` in a copy of the course. The packages stay where they are."
    with tempfile.TemporaryDirectory() as top:
        top = Path(top)
        for name in (
            "Makefile",
            "settings.ini",
            "scripts",
            "nbs",
            "discrete_diffusion",
        ):
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(
                ROOT / name, top / name
            )
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        env = dict(
            os.environ,
            DISCRETE_DIFFUSION_PROGRESS=str(top / "progress.jsonl"),
            PYTHONPATH=str(top),
            **{
                f"JUPYTER_{n}_DIR": str(top / "jupyter" / n)
                for n in ("CONFIG", "DATA", "RUNTIME")
            },
            IPYTHONDIR=str(top / "ipython"),
        )
        learn = subprocess.Popen(
            [
                "make",
                "--no-print-directory",
                "--old-file=setup",
                "learn",
                f"VENV={sys.executable}",
                "BROWSER=no",
                f"PORT={port}",
            ],
            cwd=top,
            env=env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            heard = []
            for line in learn.stdout:
                heard.append(line)
                if found := re.search(r"http://127\.0\.0\.1:\d+/\S+", line):
                    break
            else:
                raise AssertionError(
                    f"make learn printed no address: {''.join(heard)}"
                )
            yield found[0], top
        finally:
            family = psutil.Process(learn.pid).children(recursive=True)
            os.killpg(learn.pid, signal.SIGINT)
            learn.communicate(timeout=300)
            left = psutil.wait_procs(family, timeout=20)[1]
            for p in left:
                p.kill()
        assert not left, f"left running: {[p.cmdline() for p in left]}"


def run_all(page, until):
    "Run > Run All Cells, until a check has spoken and the kernel is idle."
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    expect(until).to_be_visible(timeout=PATIENCE)
    expect(
        page.locator(
            ".jp-Notebook-ExecutionIndicator[data-status='idle']"
        ).first
    ).to_be_visible(timeout=PATIENCE)


def cell(page, begins):
    "The code cell whose source begins so."
    return (
        page.locator(".jp-CodeCell")
        .filter(
            has=page.locator(
                ".cm-line:first-child",
                has_text=re.compile(f"^{re.escape(begins)}"),
            )
        )
        .first
    )


def folded(page, says):
    "The code cell that is folded into one line, which says this."
    return (
        page.locator(".jp-CodeCell")
        .filter(has=page.locator(".jp-PlaceholderText", has_text=says))
        .first
    )


def errors(page):
    return [
        e.text_content().strip()
        for e in page.locator(
            ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error'], .jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']"
        ).all()
    ]


PAINTED = """async image => {
    try { await image.decode(); } catch { return null; }
    const canvas = document.createElement('canvas');
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    canvas.getContext('2d').drawImage(image, 0, 0);
    return canvas.toDataURL();
}"""


def picture(where):
    """What the picture paints: its address is new at each change, and a
    change while the browser decodes ends the decoding, which starts anew."""
    for _ in range(40):
        if painted := where.locator("img").first.evaluate(PAINTED):
            return painted
        where.page.wait_for_timeout(50)
    raise AssertionError("the picture cannot be decoded")


def changes(page, where, was, seconds=60):
    "The picture, once it is another one: a busy machine is slow to draw."
    for _ in range(20 * seconds):
        if (now := picture(where)) != was:
            return now
        page.wait_for_timeout(50)
    raise AssertionError("the slider has moved and the picture has not")


def mend(page, source):
    """Write the right line over the wrong one, the last, as a learner would. A
    slow editor may take keys before the click has moved its cursor: undo, and
    once more."""
    before = source.inner_text()
    for _ in range(5):
        source.click()
        page.wait_for_timeout(500)
        page.keyboard.press("Control+End")
        page.keyboard.press("Shift+Home")
        page.keyboard.insert_text(RIGHT)
        now = source.inner_text()
        if RIGHT in now and WRONG not in now:
            return
        for _ in range(10):
            if source.inner_text() != before:
                page.keyboard.press("Control+Z")
                page.wait_for_timeout(100)
    raise AssertionError(f"the editor has {source.inner_text()!r}")


def learn(page, address):
    said = []
    page.on("console", lambda m: m.type == "error" and said.append(m.text))
    page.on(
        "request",
        lambda r: (
            re.match(r"https?:|wss?:", r.url)
            and f"//{address.split('/')[2]}/" not in r.url
            and said.append(f"it loads from another host: {r.url}")
        ),
    )
    page.goto(address.replace("index.ipynb", f"{CHAPTER}.ipynb"))
    exercise, check = (
        cell(page, f"# Exercise {NUMBER}"),
        folded(page, f"Check {NUMBER}:"),
    )
    expect(exercise).to_be_attached(timeout=60_000)

    run_all(
        page, check.locator(".jp-OutputArea-output").first
    )  # as it is given: the run stops at the check, with one sentence
    first = errors(page)
    assert (
        len(first) == 1
        and NUMBER in first[0]
        and "Traceback" not in first[0]
        and len(first[0].strip().splitlines()) <= 3
    ), first
    assert not page.locator(
        ".jupyter-widgets input[type=range], .noUi-handle"
    ).count(), "cells below an unsolved exercise ran"

    exercise.scroll_into_view_if_needed()
    mend(page, exercise.locator(".cm-content"))
    slider = page.locator(".noUi-handle").first
    run_all(page, slider)
    assert f"Exercise {NUMBER}: solved." in check.text_content(), (
        check.text_content()
    )
    second = errors(page)
    assert (
        len(second) == 1
        and NUMBER not in second[0]
        and "not attempted" in second[0]
    ), second

    slider.scroll_into_view_if_needed()
    slider.focus()  # the live slider: the kernel draws each picture
    box = page.locator(".jupyter-widgets.widget-vbox", has=slider).first
    clean = picture(box)
    page.keyboard.press("ArrowRight")
    one = changes(page, box, clean)
    page.keyboard.press("ArrowRight")
    changes(page, box, one)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    for _ in range(100):
        if picture(box) == clean:
            break
        page.wait_for_timeout(50)
    else:
        raise AssertionError(
            "moved back, the slider does not show the first picture"
        )
    try:
        changes(page, box, clean, seconds=1)
    except AssertionError:
        pass  # nothing moves: this must be seen
    else:
        raise AssertionError(
            "the picture changes although nobody moves the slider"
        )

    twin = page.locator(
        "[data-player]"
    ).first  # and the same without a kernel, below it
    twin.scroll_into_view_if_needed()
    was = picture(twin)
    twin.locator("input").press("End")
    changes(page, twin, was)
    return first[0].strip(), said


if __name__ == "__main__":
    start = time.time()
    with chromium() as browser, course() as (address, top):
        page = browser.new_context(
            viewport=dict(width=1280, height=1000)
        ).new_page()
        page.set_default_timeout(30_000)
        sentence, said = learn(page, address)
        page.context.close()
        assert '"solved"' in (top / "progress.jsonl").read_text(
            encoding="utf-8"
        )
    assert not said, said
    print(
        f"make learn, {CHAPTER}: {sentence!r}, mended, solved; its slider moves the picture there and back: {time.time() - start:.0f} s"
    )
