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


def execute(path, threads=None):
    "The executed notebook, and what stopped it (None: nothing did)."
    nb = nbformat.read(path, as_version=4)
    code = [i for i, c in enumerate(nb.cells) if c.cell_type == "code"]
    for i in code:
        nb.cells[i].outputs, nb.cells[i].execution_count = [], None
    bar = tqdm(
        total=len(code),
        desc=path.stem,
        unit="cell",
        bar_format="{desc}: {n_fmt}/{total_fmt} cells |{bar:20}| {elapsed}{postfix}",
    )
    at = dict(cell=None, loop=None)
    os.environ.update(
        own_folders()
    )  # the kernel's files are made in this process

    def start(cell, cell_index):
        at["loop"] = asyncio.get_running_loop()
        at["cell"] = sum(i <= cell_index for i in code)
        above = [
            m
            for c in nb.cells[:cell_index]
            if c.cell_type == "markdown"
            for m in re.findall(r"^#+ +(.*)", c.source, re.M)
        ]
        bar.set_postfix_str(above[-1][:40] if above else "")

    client = NotebookClient(
        nb,
        timeout=None,
        startup_timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(NBS)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        on_cell_start=start,
        on_cell_executed=lambda **_: bar.update(),
    )
    outcome, over = [None], threading.Event()

    def work():
        try:
            client.execute(env=environment(threads))
        except CellExecutionError as e:
            outcome[0] = (
                "interrupted"
                if e.ename == "KeyboardInterrupt"
                else f"{e.ename}: {(e.evalue.strip().splitlines() or [''])[-1]}"
            )
        except DeadKernelError:
            outcome[0] = "its process died (out of memory?)"
        except Exception as e:
            outcome[0] = f"{type(e).__name__}: {e}"
        finally:
            over.set()

    threading.Thread(target=work, daemon=True).start()
    while not over.is_set():
        try:
            over.wait(1)
            if sys.stderr.isatty():
                bar.refresh()  # one cell may take minutes: keep its clock going where someone is looking
        except KeyboardInterrupt:
            interrupt(client, at["loop"])
    bar.set_postfix_str("")
    bar.close()
    stopped = (
        outcome[0]
        and f"stopped at code cell {at['cell']} of {len(code)}: {outcome[0]}"
    )
    return nb, stopped


def save_pictures(nb, folder):
    "One file for each picture or player among the outputs, named by the number that stands beside its cell."
    names = []
    for cell in nb.cells:
        for k, out in enumerate(cell.get("outputs", [])):
            data = out.get("data", {})
            name = f"cell-{cell.get('execution_count') or 0:03d}" + (
                f"-{k}" if k else ""
            )
            html = data.get("text/html", "")
            if "image/png" in data:
                name, content = (
                    name + ".png",
                    base64.b64decode(data["image/png"]),
                )
            elif "image/svg+xml" in data:
                name, content = name + ".svg", data["image/svg+xml"].encode()
            elif "<script" in html or "<svg" in html or "<img" in html:
                name, content = (
                    name + ".html",
                    f"<!doctype html><meta charset=utf-8>{html}".encode(),
                )
            else:
                continue
            (folder / name).write_bytes(content)
            names.append(name)
    return names


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

    nb, stopped = execute(
        path, None if path.stem in LONG else 1
    )  # one thread, as the tests have it: the last digit of a sum depends on it
    if stopped:
        sys.exit(f"{path.stem} {stopped}; nbs/{path.name} is as it was.")
    lighter(nb)
    stamp(nb)
    write_atomically(path, nbformat.writes(nb) + "\n")
    nbdev_clean.__wrapped__(str(path))
    for complaint in untidy(path):
        print(f"{path.stem}: {complaint}")


if __name__ == "__main__":
    words = [w for w in sys.argv[1:] if w != "--inplace" and w.strip()]
    if "--inplace" in sys.argv:
        [
            run_in_place(p)
            for p in ([find_chapter(w) for w in words] or notebooks())
        ]
    else:
        run(find_chapter(words[0] if words else ""))
