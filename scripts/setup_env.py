"""Make .venv and install the course into it, once. Says in one sentence what is missing.

Only the standard library, and syntax that an old Python can read, so that an old Python can say that it is too old.
"""

from __future__ import print_function

import hashlib
import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(
    VENV, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python"))
)
STAMP, BUSY, LOG = [
    os.path.join(VENV, n) for n in ("installed", "installing", "install.log")
]
PIP = [
    PYTHON,
    "-m",
    "pip",
    "install",
    "--disable-pip-version-check",
    "--no-input",
    "--progress-bar",
    "off",
    "--use-pep517",
]
NEWEST_TRIED, OLDEST = (3, 13), (3, 11)
# PyTorch's build without and with NVIDIA's libraries: bytes that the environment
# takes in the end, and that must be free, for the downloads take their share.
SIZES = {"cpu": (1.7e9, 3e9), "cuda": (6.0e9, 10e9)}
CPU_ADDRESS = (
    "the CPU address that PyTorch's installation page shows, as in "
    "PIP_EXTRA_INDEX_URL=<address> make learn"
)
# Run in the new environment, with pip's report on torch alone.
WHICH_BUILD = """
import json, sys
from pip._vendor.packaging.requirements import Requirement
[torch] = json.load(sys.stdin)["install"]
needs = [Requirement(n) for n in torch["metadata"].get("requires_dist", [])]
needs = [n.name for n in needs if not n.marker or n.marker.evaluate({"extra": ""})]
print("cuda" if any(n.startswith(("nvidia-", "cuda-")) for n in needs) else "cpu")
"""


def stop(sentence):
    sys.exit("Set-up: " + sentence)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def wanted_stamp(version):
    "What a whole installation carries: its requirements, its folder (an environment does not survive a move), its Python."
    settings, setup, constraints = [
        read(os.path.join(ROOT, n))
        for n in ("settings.ini", "setup.py", "constraints.txt")
    ]
    needs = re.findall(b"^\\w*requirements\\b.*(?:\n[ \t]+.*)*", settings, re.M)
    return [
        hashlib.sha256(b"\0".join(needs + [setup, constraints])).hexdigest(),
        ROOT,
        "%d.%d" % version,
    ]


def stamp():
    "The three lines left by the last installation that was finished, else None."
    if os.path.exists(BUSY) or not os.path.exists(STAMP):
        return None
    return read(STAMP).decode("utf-8").splitlines()


def version_of(python):
    "(major, minor) of an interpreter, or None when it does not run."
    try:
        out = subprocess.check_output(
            [python, "-c", "import sys; print('%d %d' % sys.version_info[:2])"],
            stderr=subprocess.PIPE,
        )
        return tuple(int(n) for n in out.split())
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None


def installed(asked):
    "Is everything in, with the Python that was asked for, if one was?"
    version = version_of(PYTHON)
    if version is None or stamp() != wanted_stamp(version):
        return False
    return not asked or version == tuple(sys.version_info[:2])


def check_machine():
    "Everything that can be known before the first download."
    check_python()
    check_folder()
    check_processor()
    check_disk("cpu")


def check_python():
    "Is it new enough, and whole?"
    here = tuple(sys.version_info[:2])
    if here < OLDEST:
        newer = newer_python()
        if newer:
            hint = "there is one here, add PYTHON=%s to the command" % newer
        else:
            hint = "install one, then add PYTHON=/where/it/is to the command"
        stop(
            "Python %d.%d is too old, the course needs %d.%d or newer: %s."
            % (here + OLDEST + (hint,))
        )
    try:
        for name in ("ensurepip", "venv"):
            importlib.import_module(name)
    except ImportError:
        stop(
            "this Python lacks its venv module: on Debian and Ubuntu, `apt install python%d.%d-venv` brings it."
            % here
        )


def newer_python():
    "The newest interpreter here that will do, or None."
    for minor in range(NEWEST_TRIED[1], OLDEST[1] - 1, -1):
        name = "python3.%d" % minor
        if (version_of(name) or (0, 0)) >= OLDEST:
            return name
    return None


def check_folder():
    "Can an environment be made here, without harm to another?"
    if os.path.islink(VENV):
        stop(
            "the folder .venv is a link to %s, an environment that others use and that does not fit what is asked for here: "
            "it is left alone. Take the link away, and an environment of this folder's own is made."
            % os.path.realpath(VENV)
        )
    if holds_something_else():
        stop(
            "the folder .venv holds something that is not a virtual environment: move it away and start again."
        )
    if not os.access(ROOT, os.W_OK):
        stop("the folder %s cannot be written to." % ROOT)


def holds_something_else():
    "Is there a .venv with files in it that no set-up has left?"
    if not os.path.exists(VENV) or not os.listdir(VENV):
        return False
    marks = (os.path.join(VENV, "pyvenv.cfg"), BUSY)
    return not any(os.path.exists(mark) for mark in marks)


def translated():
    "Is this Python, built for Intel, run by a Mac with a processor of Apple's?"
    try:
        out = subprocess.check_output(
            ["sysctl", "-n", "sysctl.proc_translated"], stderr=subprocess.PIPE
        )
        return out.strip() == b"1"
    except (OSError, subprocess.CalledProcessError):
        return False


def check_processor():
    "PyTorch has packages for every machine that Python runs on but these."
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        if translated():
            stop(
                "this Python is built for Intel processors and this Mac has one of Apple's, for which alone PyTorch still "
                "has packages: install a Python for Apple silicon, then add PYTHON=/where/it/is to the command."
            )
        stop(
            "this Mac has an Intel processor, for which PyTorch has had no packages since its version 2.3; the Python is "
            "not to blame. Every chapter also runs in Colab: the links stand on the course's pages and in README.md."
        )
    if sys.maxsize < 2**32:
        stop(
            "this Python is a 32-bit one, for which PyTorch has no packages: install a 64-bit one, then add "
            "PYTHON=/where/it/is to the command."
        )


def check_disk(build):
    "Is there room for the build of PyTorch that comes?"
    free, needed = shutil.disk_usage(ROOT).free, SIZES[build][1]
    if free >= needed:
        return
    why = ""
    if build == "cuda":
        why = (
            " with PyTorch's build for NVIDIA GPUs, which pip takes here (without: %.0f GB; give pip %s)"
            % (SIZES["cpu"][1] / 1e9, CPU_ADDRESS)
        )
    stop(
        "not enough disk, %.1f GB are free under %s and the course needs about %.0f GB%s."
        % (free / 1e9, ROOT, needed / 1e9, why)
    )


def build_that_comes(pip):
    "'cuda' or 'cpu': asked of pip, which says what it would take. None where it does not say."
    pinned = re.search(
        b"^torch==\\S+", read(os.path.join(ROOT, "constraints.txt")), re.M
    )
    torch = pinned.group(0).decode() if pinned else "torch"
    ask = pip + [
        "--quiet",
        "--dry-run",
        "--ignore-installed",
        "--no-deps",
        "--report",
        "-",
        torch,
    ]
    try:
        report = subprocess.check_output(ask, cwd=ROOT, stderr=subprocess.PIPE)
        which = subprocess.Popen(
            [PYTHON, "-c", WHICH_BUILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        said = which.communicate(report)[0].decode().strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return said if said in SIZES else None


def explain(log):
    "The one sentence for a failed pip."
    if "No space left on device" in log or "Errno 28" in log:
        return (
            "the disk is full (the course needs about %.0f GB; where pip takes PyTorch's build for NVIDIA GPUs, %.0f)"
            % (SIZES["cpu"][1] / 1e9, SIZES["cuda"][1] / 1e9)
        )
    nothing = re.findall(
        r"No matching distribution found for (\S+)|Could not find a version that satisfies the requirement (\S+)",
        log,
    )
    offline = re.search(
        r"Retrying \(Retry|Could not fetch URL|Connection(Error| refused| timed out)|ProxyError|name resolution",
        log,
    )
    if offline or (nothing and "from versions: none" in log):
        return "no package index could be reached: check that there is a network and that pip knows your index or proxy"
    if nothing:
        name = (nothing[0][0] or nothing[0][1]).rstrip(",")
        if OLDEST <= tuple(sys.version_info[:2]) <= NEWEST_TRIED:
            return (
                "the package index has no %s for this kind of machine, %s"
                % (name, sysconfig.get_platform())
            )
        return (
            "the package index has no %s for Python %d.%d: the course is tried on %d.%d to %d.%d"
            % ((name,) + tuple(sys.version_info[:2]) + OLDEST + NEWEST_TRIED)
        )
    errors = [
        line for line in log.splitlines() if line.lower().startswith("error")
    ]
    return "pip stopped: %s" % (errors[-1] if errors else "it gave no reason")


def run_logged(command):
    "Run quietly with the output in the log; on a terminal show what is going on and for how long. Exit status and output."
    start, shown = time.time(), sys.stdout.isatty()
    lines = []
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with open(LOG, "ab") as log:
        for raw in process.stdout:
            log.write(raw)
            log.flush()
            line = raw.decode("utf-8", "replace").rstrip()
            lines.append(line)
            if shown:
                show(line, time.time() - start)
    if shown:
        print("\r\033[K", end="")
    return process.wait(), "\n".join(lines)


def show(line, seconds):
    "What pip is doing, in one line of the terminal."
    now = re.match(
        r"\s*(Collecting \S+|Downloading \S+|Installing [\w ]+|Building [\w ]+)",
        line,
    )
    if now:
        print(
            "\r\033[KSet-up  %4d s  %s" % (seconds, now.group(1)[:50]), end=""
        )
    sys.stdout.flush()


def last_line(log):
    return (log.splitlines() or ["no reason given"])[-1]


def install():
    "Into a fresh environment, unless a whole one only needs other packages."
    here = tuple(sys.version_info[:2])
    fresh = must_be_fresh(here)
    start = time.time()
    begin()
    print(
        "Set-up: installing the course into .venv with Python %d.%d, once (log: .venv/install.log)."
        % here
    )
    sys.stdout.flush()
    if fresh:
        make_environment()
        announce(build_that_comes(PIP))
    install_packages(fresh)
    try_packages()
    with open(STAMP, "wb") as f:
        f.write("\n".join(wanted_stamp(here)).encode("utf-8"))
    os.remove(BUSY)
    print("Set-up: done in %d s." % (time.time() - start))


def must_be_fresh(here):
    "Cut off half-way, with another Python, or moved: it is begun anew."
    left = stamp()
    return (
        os.path.exists(BUSY)
        or version_of(PYTHON) != here
        or (left is not None and left[1] != ROOT)
    )


def begin():
    "The file that stands until everything is in."
    if not os.path.isdir(VENV):
        os.mkdir(VENV)
    open(BUSY, "w").close()


def make_environment():
    "An empty one, in the place of whatever was there."
    for name in os.listdir(VENV):
        path = os.path.join(VENV, name)
        if path == BUSY:
            continue
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)
    status, log = run_logged([sys.executable, "-m", "venv", VENV])
    if status:
        stop("Python could not make the environment: %s" % last_line(log))


def announce(build):
    "How much room the build of PyTorch that comes will take; None: it is not known which."
    if build:
        check_disk(build)
    size = "about %.1f GB" % (SIZES[build or "cpu"][0] / 1e9)
    if build is None:
        size += ", or %.1f where pip takes PyTorch's build for NVIDIA GPUs" % (
            SIZES["cuda"][0] / 1e9
        )
    if build == "cuda":
        size += (
            " with PyTorch's build for NVIDIA GPUs (without: %.1f GB; give pip %s)"
            % (SIZES["cpu"][0] / 1e9, CPU_ADDRESS)
        )
    print("Set-up: it takes %s, and some minutes." % size)
    sys.stdout.flush()


def install_packages(fresh):
    status, log = run_logged(PIP + ["-c", "constraints.txt", "-e", ".[dev]"])
    if status:
        if not fresh and "Installing collected packages" not in log:
            os.remove(BUSY)  # what was there is still whole
        stop("%s (log: .venv/install.log)." % explain(log))


def try_packages():
    imports = "import torch, jupyterlab, nbdev, discrete_diffusion"
    status, log = run_logged([PYTHON, "-c", imports])
    if status:
        stop("the packages are in but do not load: %s" % last_line(log))


def main():
    # PYTHON= was given: an environment of another version does not do.
    asked = "--asked" in sys.argv[1:]
    if installed(asked):
        return
    check_machine()
    try:
        import fcntl
    except ImportError:
        return install()  # Windows: without the lock
    with open(os.path.join(ROOT, "settings.ini")) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("Set-up: another set-up is at work here, waiting for it.")
            sys.stdout.flush()
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed(asked):
            install()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("stopped; the next start begins anew.")
