"""Make the learner's notebooks in work/ and open JupyterLab on them. Asks nothing of any network.

learn.py                       make or renew work/, open it
learn.py --make work           make or renew the notebooks of a folder, open nothing
learn.py --make colab --colab yes   the set for Colab: each begins with a cell that installs what is missing
learn.py --solved yes          open the solved notebooks in nbs/ (to change the course)
learn.py --force 03_forward    set the learner's notebook of a chapter aside and start it anew
"""

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path

from filelock import FileLock, Timeout
from house import (
    NBS,
    ROOT,
    can_be_written,
    environment,
    find_chapter,
    notebooks,
    own_folders,
    settings,
    spare_home,
    write_atomically,
)
from jupyter_core.paths import jupyter_runtime_dir

# Ports


def is_free(port):
    "Does nobody listen there?"
    with socket.socket() as s:
        if os.name != "nt":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except PermissionError:
            sys.exit(
                f"This account may not listen on port {port}: "
                "take one above 1023, as in PORT=8888."
            )
        except OSError:
            return False
        return True


CLAIMS = []  # held as long as this process lives


def claimed(port):
    "Is it ours from now on, among all that run this script? Between our look and JupyterLab's start lie seconds."
    user = os.getuid() if hasattr(os, "getuid") else ""
    name = f"discrete-diffusion-{user}-{port}.lock"
    lock = FileLock(Path(tempfile.gettempdir()) / name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except OSError:  # no place for a lock: then without
        return True
    CLAIMS.append(lock)
    return True


def free_port(wanted):
    "`wanted`, or the next port that nobody listens on or is about to."
    for port in range(wanted, min(wanted + 50, 65536)):
        if is_free(port) and claimed(port):
            return port
    sys.exit(f"No free port from {wanted} on: name another, as in PORT=9000.")


# The notebooks


def archive():
    "Where a learner without the repository gets the course from."
    return "{git_url}/archive/refs/heads/{branch}.zip".format_map(settings())


def shown(folder):
    "A folder as a reader of the README knows it."
    return folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder


def make(folder, force="", colab=False):
    """Every notebook of the course into the folder. What a learner has touched stays.

    A file that cannot be renewed is named, with the reason; the others are made.
    """
    sys.path.insert(0, str(ROOT))
    from discrete_diffusion.exercises import write_learner

    again = find_chapter(force) if force else None
    make_folder(folder)
    written, left = {}, []
    for path in notebooks():
        try:
            written[path.stem] = write_learner(
                path,
                folder,
                force=path == again,
                colab=archive() if colab else "",
            )
        except (ValueError, OSError) as e:
            left.append(reason(path, e))
    copy_picture(folder)
    tell(folder, written, left)


def copy_picture(folder):
    "The picture of index.ipynb, beside the learner's copy of it."
    picture = (NBS / "front.svg").read_bytes()
    try:
        write_atomically(folder / "front.svg", picture)
    except OSError as e:
        print(f"front.svg: {e.strerror}")


def make_folder(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        sys.exit(f"There can be no folder {shown(folder)}: {e.strerror}.")
    if not can_be_written(folder):
        sys.exit(f"The folder {shown(folder)} cannot be written to.")


def reason(path, error):
    "Why a notebook could not be made, with its name."
    said = getattr(error, "strerror", None) or str(error)
    return said if said.startswith(path.name) else f"{path.name}: {said}"


def tell(folder, written, left):
    "What was made, what a learner has of their own, and what could not be made."
    made = sum(w.changed for w in written.values())
    kept = sum(len(w.kept) for w in written.values())
    stale = [f"{stem}: {k}" for stem, w in written.items() for k in w.stale]
    print(
        f"{shown(folder)}/: {made} notebooks written"
        + (f", {kept} cells of yours kept" if kept else "")
        + "."
    )
    if stale:
        print(
            "The course has changed what these cells of yours began as, have a look: "
            + ", ".join(stale)
        )
    for line in left:
        print(line)


# JupyterLab


def serve(folder, port, token):
    "JupyterLab, on its way to `port`."
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--ServerApp.root_dir={folder}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.open_browser=False",
        "--log-level=ERROR",
        "--LabApp.log_level=ERROR",
        "--KernelManager.transport_encryption=auto",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class="
        "jupyterlab.handlers.announcements.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container, say
        command.append("--ServerApp.allow_root=True")
    env = environment() | {"JUPYTER_TOKEN": token}
    # A session of its own, so that Ctrl-C reaches this script alone, and
    # JupyterLab asks no question.
    return subprocess.Popen(
        command, cwd=folder, env=env, start_new_session=True
    )


def address_of(token):
    "Where the server with this token says that it is, or None."
    for path in Path(jupyter_runtime_dir()).glob("jpserver-*.json"):
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # gone, or not yet written to its end
            continue
        if said.get("token") == token:
            return said["url"]


def answers(address, token):
    "Does it open with this token? None where nobody answers yet."
    ask = urllib.request.Request(
        f"{address}api/status", headers={"Authorization": f"token {token}"}
    )
    without_proxy = urllib.request.ProxyHandler({})
    try:
        urllib.request.build_opener(without_proxy).open(ask, timeout=5).close()
        return True
    except urllib.error.HTTPError:
        return False
    except OSError:
        return None


def opened(folder, port, token, tries=5):
    """A server and its address: asked of the server itself, for another program
    may have taken the port between our look and its start."""
    for _ in range(tries):
        server = serve(folder, port, token)
        try:
            address = ready(server, token)
        except BaseException:  # Ctrl-C: it would stay
            end(server)
            raise
        if address:
            return server, address
        end(server)
        if is_free(port):
            break
        port = free_port(port + 1)
    sys.exit("JupyterLab ended before it was ready; what it said stands above.")


def ready(server, token, seconds=120):
    "The address at which it answers; None when it has ended, or another answers there."
    until = time.monotonic() + seconds
    while server.poll() is None:
        address = address_of(token)
        if address:
            ours = answers(address, token)
            if ours is not None:
                return address if ours else None
        if time.monotonic() > until:
            sys.exit(f"JupyterLab did not answer within {seconds} seconds.")
        time.sleep(0.1)


def end(server):
    if server.poll() is not None:
        return
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()


def no_news():
    "JupyterLab's own switches for its news and update questions, set for this virtual environment."
    if sys.prefix == sys.base_prefix:
        return
    folder = os.path.join(sys.prefix, "share", "jupyter", "lab", "settings")
    os.makedirs(folder, exist_ok=True)
    quiet = {
        "@jupyterlab/apputils-extension:notification": {
            "fetchNews": "false",
            "checkForUpdates": False,
        }
    }
    with open(os.path.join(folder, "overrides.json"), "w") as f:
        json.dump(quiet, f)


def stop_politely():
    "A signal to stop is as good as Ctrl-C."

    def leave(*_):
        raise KeyboardInterrupt

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), leave)


def find_home():
    "Folders that can be written to, for what JupyterLab keeps of a learner."
    instead = own_folders()
    os.environ.update(instead)
    if instead:
        print(
            "Your home folder cannot be written to: what JupyterLab keeps of "
            f"you goes to {shown(spare_home())}/."
        )


def announce(home, token, wanted, browser):
    "Where the course is open."
    port = home.rstrip("/").rsplit(":", 1)[1]
    if port != wanted:
        print(f"Port {wanted} is taken, so it is {port}.")
    address = f"{home}lab/tree/index.ipynb?token={token}"
    print(f"The course is open at {address}")
    print("Stop it with Ctrl-C here.", flush=True)
    if browser.lower() not in ("no", "none", "0", "false", "off"):
        webbrowser.open(address)


def keep_open(folder, port, browser):
    "JupyterLab on a folder, until it is stopped."
    token = secrets.token_hex(12)
    server = None
    try:
        server, home = opened(folder, free_port(int(port)), token)
        announce(home, token, port, browser)
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        if server is not None and server.poll() is None:
            end(server)
            print(f"\nClosed. What you saved is in {shown(folder)}/.")


# From the command line


def switched(text):
    return text.strip().lower() in ("yes", "1", "true", "on")


def options():
    ask = argparse.ArgumentParser()
    ask.add_argument("--browser", default="yes")
    ask.add_argument("--port", default="8888")
    ask.add_argument("--solved", default="no")
    ask.add_argument("--make", default="")
    ask.add_argument("--colab", default="no")
    ask.add_argument("--force", default="")
    args = ask.parse_args()
    if args.force.strip().lower() in ("no", "0", "false"):
        args.force = ""
    if args.force.strip().lower() in ("yes", "1", "true"):
        sys.exit(
            "FORCE names the chapter that is to start anew, as in "
            "FORCE=03_forward."
        )
    return args


def main():
    args = options()
    solved = switched(args.solved)
    folder = NBS if solved else Path(args.make or ROOT / "work").resolve()
    if not solved:
        make(folder, args.force, switched(args.colab))
    if args.make:
        return
    if not (args.port.isdigit() and 1 <= int(args.port) <= 65535):
        sys.exit(
            f"PORT={args.port} is no port: take a number from 1024 to 65535."
        )
    stop_politely()
    no_news()
    find_home()
    keep_open(folder, args.port, args.browser)


if __name__ == "__main__":
    main()
