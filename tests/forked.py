"""A process that begins with torch and the plots already imported.

One server imports them once and forks for each notebook: four to five seconds
of processor time less for each. Nothing of the course is imported in it, and no
thread runs in it. On Linux only: elsewhere forking such a process is not safe.
"""

import multiprocessing
import os
import subprocess
import sys

from bounded import IDLE, watched
from house import NBS, ROOT, environment

IMPORTED = [
    "torch",
    "matplotlib.pyplot",
    "seaborn",
    "ipywidgets",
    "hypothesis",
    "jaxtyping",
    "beartype",
    "nbdev.test",
    "execnb.shell",
]
POSSIBLE = sys.platform == "linux"
SCRIPTS = str(ROOT / "scripts")


class Forked:
    "What `bounded` wants of a process, as `subprocess.Popen` has it."

    def __init__(self, words, log):
        server = multiprocessing.get_context("forkserver")
        server.set_forkserver_preload(IMPORTED)
        env, mine = environment(1), dict(os.environ)
        self.process = server.Process(target=run, args=(words, env, log.name))
        replace(env)  # the server, which the first one starts, takes it over
        try:
            self.process.start()
        finally:
            replace(mine)
        self.pid, self.kill = self.process.pid, self.process.kill

    def wait(self, timeout=None):
        self.process.join(timeout)
        if self.process.is_alive():
            raise subprocess.TimeoutExpired("a notebook", timeout)
        self.returncode = self.process.exitcode


def replace(env):
    os.environ.clear()
    os.environ.update(env)


def run(words, env, log):
    "In the new process: as if `one.py` had been called."
    os.setsid()
    with open(log, "ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    replace(env)
    os.chdir(NBS)
    ours = (str(ROOT / "tests"), SCRIPTS, str(ROOT))
    sys.path[:] = [SCRIPTS, *(p for p in sys.path if p not in ours)]
    sys.argv[:] = [f"{SCRIPTS}/one.py", *words]
    import one

    sys.exit(one.main(*words))


def forked(words, seconds, closing, idle=IDLE):
    "`bounded` for `one.py` with these words."
    return watched(lambda log: Forked(words, log), seconds, closing, idle=idle)
