"""Run a command, and end it with all that it started.

What bounds it is processor time, and that it goes on: a notebook that takes
405 s alone takes over 1,800 s on the clock where ten others compute beside it,
and nothing is wrong with it then.
"""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time

import psutil
from house import NBS, environment

IDLE = 300  # seconds on the clock without output and without work: it hangs
LEAST_SHARE = 0.01  # of one processor: less is no work
RUNNING, STOPPED = set(), []


def processors():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def family(process):
    "A process and what it has started, as far as it still runs."
    try:
        top = psutil.Process(process.pid)
        return [top, *top.children(recursive=True)]
    except psutil.Error:
        return []


def end(process):
    "A process with all that it started."
    left = family(process)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, ProcessLookupError, PermissionError):
        process.kill()
    for member in left:
        with contextlib.suppress(psutil.Error):
            member.kill()


def stop(*_):
    "Ctrl-C or a polite kill: nothing is left running."
    STOPPED.append(True)
    for process in list(RUNNING):
        end(process)


class Watch:
    "What a process has done so far, with all that it started."

    def __init__(self, process, log):
        self.process, self.log = process, log
        self.spent = {}
        self.begin_anew(0.0, 0)

    def begin_anew(self, work, size):
        self.since, self.work, self.size = time.monotonic(), work, size

    def processor_time(self):
        "Seconds, those of processes that have ended included."
        for member in family(self.process):
            with contextlib.suppress(psutil.Error):
                times = member.cpu_times()
                self.spent[member] = times.user + times.system
        return sum(self.spent.values())

    def complaint(self, seconds, idle):
        "Why it must end now, or None."
        work, size = self.processor_time(), os.fstat(self.log.fileno()).st_size
        if work > seconds:
            return f"not done after {seconds:.0f} seconds of processor time"
        waited = time.monotonic() - self.since
        worked = work - self.work > LEAST_SHARE * max(waited, idle / 10)
        if worked or size > self.size:
            self.begin_anew(work, size)
        elif waited > idle:
            return f"it hangs: no output and no work for {waited:.0f} seconds"


def bounded(
    command,
    seconds,
    threads=None,
    cwd=NBS,
    closing="",
    keep=None,
    idle=IDLE,
    env=None,
):
    "Run a command in a process group of its own: `watched`, with these variables."

    def start(log):
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(threads) | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    return watched(start, seconds, closing, keep, idle)


def watched(start, seconds, closing="", keep=None, idle=IDLE):
    """Start a process, which writes to the file that `start` is given; its
    group ends with it.

    None when it passed, else what it said. Passed: exit status 0, within
    `seconds` of processor time, never `idle` seconds without progress, and its
    last line is `closing` where one is given. What it said is added to the
    list `keep`.
    """
    if STOPPED:
        return "not run"
    with tempfile.NamedTemporaryFile() as log:
        process = start(log)
        RUNNING.add(process)
        watch, late = Watch(process, log), None
        try:
            while late is None:
                try:
                    process.wait(1)
                    break
                except subprocess.TimeoutExpired:
                    late = watch.complaint(seconds, idle)
        finally:
            end(process)
            RUNNING.discard(process)
        process.wait()
        log.seek(0)
        out = log.read().decode("utf-8", "replace")
    out = re.sub(r"\x1b\[[0-9;]*m", "", out).rstrip()
    if keep is not None:
        keep.append(out)
    if process.returncode == 0 and not late and out.endswith(closing):
        return None
    tail = "\n".join(out.splitlines()[-40:])
    why = late or f"exit status {process.returncode}"
    return f"{tail}\n{why}".strip()
