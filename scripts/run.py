"""Execute a chapter from top to bottom with a progress bar.

run.py 10_d3pm              the executed notebook and its pictures go to runs/10_d3pm/
run.py --inplace [10_d3pm]  the outputs are saved in nbs/ (all notebooks when none is named)
"""

import asyncio
import base64
import io
import os
import re
import shutil
import sys
import tempfile
import threading
from pathlib import Path

import nbformat
from fresh import stamp
from house import (
    LONG,
    NBS,
    ROOT,
    environment,
    find_chapter,
    notebooks,
    own_folders,
    untidy,
    write_atomically,
)
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from PIL import Image, ImageChops, ImageStat
from tqdm import tqdm

RUNS = ROOT / "runs"


def interrupt(client, loop):
    """The running cell ends with a KeyboardInterrupt of its own, and what there
    is gets saved. How a kernel is told so differs from system to system: its
    manager knows (on Windows no signal does it, one would end the kernel)."""
    if loop is None or client.km is None:
        sys.exit("Stopped before a kernel ran.")

    async def tell():
        await client.km.interrupt_kernel()

    asyncio.run_coroutine_threadsafe(tell(), loop)


class Execution:
    "One run of a notebook, with a progress bar."

    def __init__(self, path):
        self.nb = nbformat.read(path, as_version=4)
        self.code = [
            i for i, c in enumerate(self.nb.cells) if c.cell_type == "code"
        ]
        for i in self.code:
            cell = self.nb.cells[i]
            cell.outputs, cell.execution_count = [], None
        self.reached, self.loop = None, None
        self.outcome, self.over = None, threading.Event()
        self.bar = tqdm(
            total=len(self.code),
            desc=path.stem,
            unit="cell",
            bar_format="{desc}: {n_fmt}/{total_fmt} cells |{bar:20}| {elapsed}{postfix}",
        )
        self.client = NotebookClient(
            self.nb,
            timeout=None,
            startup_timeout=600,
            kernel_name="python3",
            resources={"metadata": {"path": str(NBS)}},
            record_timing=False,
            store_widget_state=False,
            coalesce_streams=True,
            extra_arguments=["--log-level=ERROR"],
            on_cell_start=self.starts,
            on_cell_executed=lambda **_: self.bar.update(),
        )

    def starts(self, cell, cell_index):
        "The bar names the heading above the cell."
        self.loop = asyncio.get_running_loop()
        self.reached = sum(i <= cell_index for i in self.code)
        text = "\n".join(
            c.source
            for c in self.nb.cells[:cell_index]
            if c.cell_type == "markdown"
        )
        headings = re.findall(r"^#+ +(.*)", text, re.M)
        self.bar.set_postfix_str(headings[-1][:40] if headings else "")

    def work(self, threads):
        try:
            self.client.execute(env=environment(threads))
        except CellExecutionError as e:
            last = (e.evalue.strip().splitlines() or [""])[-1]
            by_hand = e.ename == "KeyboardInterrupt"
            self.outcome = "interrupted" if by_hand else f"{e.ename}: {last}"
        except DeadKernelError:
            self.outcome = "its process died (out of memory?)"
        except Exception as e:
            self.outcome = f"{type(e).__name__}: {e}"
        finally:
            self.over.set()

    def watch(self):
        "Until it is over; one cell may take minutes: the clock goes on where someone is looking."
        while not self.over.is_set():
            try:
                self.over.wait(1)
                if sys.stderr.isatty():
                    self.bar.refresh()
            except KeyboardInterrupt:
                interrupt(self.client, self.loop)
        self.bar.set_postfix_str("")
        self.bar.close()

    def stopped(self):
        "What stopped it, or None."
        if self.outcome is None:
            return None
        return f"stopped at code cell {self.reached} of {len(self.code)}: {self.outcome}"


def execute(path, threads=None):
    "The executed notebook, and what stopped it (None: nothing did)."
    # the kernel's files are made in this process
    os.environ.update(own_folders())
    one = Execution(path)
    threading.Thread(target=one.work, args=[threads], daemon=True).start()
    one.watch()
    return one.nb, one.stopped()


def save_pictures(nb, folder):
    "One file for each picture or player among the outputs, named by the number that stands beside its cell."
    names = []
    for cell in nb.cells:
        for k, out in enumerate(cell.get("outputs", [])):
            ending, content = picture(out.get("data", {}))
            if ending:
                number = cell.get("execution_count") or 0
                name = f"cell-{number:03d}" + (f"-{k}" if k else "") + ending
                (folder / name).write_bytes(content)
                names.append(name)
    return names


def picture(data):
    "The ending of its file's name and its bytes; twice None where an output is none."
    html = data.get("text/html", "")
    if "image/png" in data:
        return ".png", base64.b64decode(data["image/png"])
    if "image/svg+xml" in data:
        return ".svg", data["image/svg+xml"].encode()
    if "<script" in html or "<svg" in html or "<img" in html:
        return ".html", f"<!doctype html><meta charset=utf-8>{html}".encode()
    return None, None


COLOURS = (32, 64, 128, 256)  # a picture has the fewest that look the same
SAME = 2.0  # of 255: how far a colour may be from what it was, on the whole


def lighter(nb):
    """Pictures among the outputs with a few colours of their own.

    In place of 16 million: a quarter of the bytes, and the eye sees no
    difference. The size at which a picture is shown stands beside it.
    """
    for cell in nb.cells:
        for out in cell.get("outputs", []):
            data = out.get("data", {})
            if "image/png" not in data:
                continue
            raw = base64.b64decode(data["image/png"])
            with Image.open(io.BytesIO(raw)) as image:
                made = few_colours(image)
            if made and len(made) < len(raw):
                data["image/png"] = base64.b64encode(made).decode()


def few_colours(image):
    "The bytes of a picture on white paper; None where it has a palette."
    if image.mode == "P":
        return None
    paper = Image.new("RGBA", image.size, "white")
    plain = Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
    for colours in COLOURS:
        few = plain.quantize(colours, dither=Image.Dither.NONE)
        apart = ImageChops.difference(plain, few.convert("RGB"))
        if max(ImageStat.Stat(apart).rms) <= SAME:
            break
    made = io.BytesIO()
    few.save(made, "PNG", optimize=True)
    return made.getvalue()


def run(path):
    "Into a folder of its own, which takes the place of the last one only when it is complete."
    nb, stopped = execute(path)
    RUNS.mkdir(exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{path.stem}-", dir=RUNS))
    new.chmod(0o755)
    try:
        nbformat.write(nb, new / path.name)
        names = save_pictures(nb, new)
        folder, old = RUNS / path.stem, new.with_name(new.name + "-old")
        if folder.exists():
            os.replace(folder, old)
        os.replace(new, folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    print(
        f"{path.name} and {len(names)} picture{'s' * (len(names) != 1)} are in {folder.relative_to(ROOT)}/"
    )
    if stopped:
        sys.exit(f"{path.stem} {stopped}")


def run_in_place(path):
    "Outputs into nbs/, but none that stopped half-way or that a page should not show."
    from nbdev.clean import nbdev_clean

    # one thread, as the tests have it: the last digit of a sum depends on it
    nb, stopped = execute(path, None if path.stem in LONG else 1)
    if stopped:
        sys.exit(f"{path.stem} {stopped}; nbs/{path.name} is as it was.")
    lighter(nb)
    stamp(nb)
    write_atomically(path, nbformat.writes(nb) + "\n")
    nbdev_clean.__wrapped__(str(path))
    for complaint in untidy(path):
        print(f"{path.stem}: {complaint}")


def main(words):
    named = [w for w in words if w != "--inplace" and w.strip()]
    if "--inplace" not in words:
        return run(find_chapter(named[0] if named else ""))
    for path in [find_chapter(w) for w in named] or notebooks():
        run_in_place(path)


if __name__ == "__main__":
    main(sys.argv[1:])
