"`make run`: Ctrl-C ends the running cell and not the kernel, on every system."

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

EXECUTE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import run
notebook, stopped = run.execute(Path(sys.argv[2]))
print(stopped)
print(notebook.cells[0].outputs)
"""


def written(folder, *cells):
    path = folder / "cells.ipynb"
    cells = [new_code_cell(cell) for cell in cells]
    nbformat.write(new_notebook(cells=cells), path)
    return path


def as_in_a_terminal():
    "A job in the background of a shell ignores Ctrl-C, and hands that on."
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(root, path, **more):
    return subprocess.Popen(
        [sys.executable, "-c", EXECUTE, str(root / "scripts"), str(path)],
        env={**os.environ, **more},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=None if os.name == "nt" else as_in_a_terminal,
    )


def test_the_manager_interrupts(monkeypatch):
    "Its method does the right thing on each system; a signal would not."
    import run

    def no_signal(*words):
        raise AssertionError("a signal ends a kernel on Windows")

    monkeypatch.setattr(os, "kill", no_signal)
    told = threading.Event()

    async def interrupt_kernel():
        told.set()

    client = SimpleNamespace(
        km=SimpleNamespace(
            interrupt_kernel=interrupt_kernel,
            provisioner=SimpleNamespace(pid=os.getpid()),
        )
    )
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    run.interrupt(client, loop)
    assert told.wait(10)
    loop.call_soon_threadsafe(loop.stop)


def test_ctrl_c_ends_the_cell_and_keeps_what_there_is(root, tmp_path):
    mark = tmp_path / "runs"
    waits = f"import time\nopen({str(mark)!r}, 'w').close()\ntime.sleep(300)"
    path = written(tmp_path, "print('kept')", waits)
    process = started(root, path)
    for _ in range(6000):
        if mark.exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=800)[0]
    assert "stopped at code cell 2 of 2: interrupted" in said
    assert "kept" in said


def test_a_home_that_cannot_be_written_to(root, tmp_path):
    (tmp_path / "file").write_text("")
    more = {"HOME": str(tmp_path / "file" / "home")}
    process = started(root, written(tmp_path, "print(1 + 1)"), **more)
    said = process.communicate(timeout=800)[0]
    assert said.splitlines()[0] == "None"
    assert "'2\\n'" in said
