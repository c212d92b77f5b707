"""Make the learner's notebooks in work/ and open JupyterLab on them. Asks nothing of any network.

    learn.py                       make or renew work/, open it
    learn.py --make work           make or renew the notebooks of a folder, open nothing
    learn.py --make colab --colab yes   the set for Colab: each begins with a cell that installs what is missing
    learn.py --solved yes          open the solved notebooks in nbs/ (to change the course)
    learn.py --force 03_forward    set the learner's notebook of a chapter aside and start it anew
"""
import argparse, json, os, secrets, signal, socket, subprocess, sys, time, urllib.error, urllib.request, webbrowser
from pathlib import Path
from house import NBS, ROOT, environment, find_chapter, notebooks, settings


def free_port(wanted):
    "`wanted`, or the next port that nobody listens on."
    for port in range(wanted, min(wanted + 50, 65536)):
        with socket.socket() as s:
            if os.name != "nt": s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try: s.bind(("127.0.0.1", port))
            except PermissionError: sys.exit(f"This account may not listen on port {port}: take one above 1023, as in PORT=8888.")
            except OSError: continue
            return port
    sys.exit(f"No free port from {wanted} on: name another, as in PORT=9000.")


def no_news():
    "JupyterLab's own switches for its news and update questions, set for this virtual environment."
    if sys.prefix == sys.base_prefix: return
    folder = os.path.join(sys.prefix, "share", "jupyter", "lab", "settings")
    os.makedirs(folder, exist_ok=True)
    quiet = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
    with open(os.path.join(folder, "overrides.json"), "w") as f: json.dump(quiet, f)


def archive():
    "Where a learner without the repository gets the course from."
    return "{git_url}/archive/refs/heads/{branch}.zip".format_map(settings())


def make(folder, force="", colab=False):
    "Every notebook of the course into the folder. What a learner has touched stays."
    sys.path.insert(0, str(ROOT))
    from discrete_diffusion.exercises import write_learner
    again = find_chapter(force) if force else None
    made, kept, stale, left = 0, 0, [], []
    for path in notebooks():
        try: w = write_learner(path, folder, force=path == again, colab=archive() if colab else "")
        except ValueError as e: left.append(str(e)); continue
        made += w.changed; kept += len(w.kept); stale += [f"{path.stem}: {k}" for k in w.stale]
    where = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
    print(f"{where}/: {made} notebooks written" + (f", {kept} cells of yours kept" if kept else "") + ".")
    if stale: print("The course has changed what these cells of yours began as, have a look: " + ", ".join(stale))
    for line in left: print(line)


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("--browser", default="yes"); ask.add_argument("--port", default="8888"); ask.add_argument("--solved", default="no")
    ask.add_argument("--make", default=""); ask.add_argument("--colab", default="no"); ask.add_argument("--force", default="")
    args = ask.parse_args()
    yes = lambda v: v.strip().lower() in ("yes", "1", "true", "on")
    if args.force.strip().lower() in ("yes", "no", "1", "0", "true", "false"):
        if args.force.strip().lower() not in ("no", "0", "false"): sys.exit("FORCE names the chapter that is to start anew, as in FORCE=03_forward.")
        args.force = ""
    folder = NBS if yes(args.solved) else Path(args.make or ROOT / "work").resolve()
    if not yes(args.solved): make(folder, args.force, yes(args.colab))
    if args.make: return
    if not (args.port.isdigit() and 1 <= int(args.port) <= 65535): sys.exit(f"PORT={args.port} is no port: take a number from 1024 to 65535.")
    port = free_port(int(args.port))
    if port != int(args.port): print(f"Port {args.port} is taken, so it is {port}.")
    no_news()
    token = secrets.token_hex(12)
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
               "--ServerApp.ip=127.0.0.1", "--ServerApp.open_browser=False", "--log-level=ERROR", "--LabApp.log_level=ERROR",
               "--KernelManager.transport_encryption=auto",
               "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
               "--LabApp.extension_manager=readonly"]
    if hasattr(os, "geteuid") and os.geteuid() == 0: command.append("--ServerApp.allow_root=True")     # in a container, say
    def leave(*_): raise KeyboardInterrupt
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name): signal.signal(getattr(signal, name), leave)
    server = subprocess.Popen(command, cwd=folder, env=dict(environment(), JUPYTER_TOKEN=token),
                              start_new_session=True)       # so that Ctrl-C reaches this script alone, and JupyterLab asks no question
    home = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            if server.poll() is not None: sys.exit(f"JupyterLab ended before it was ready (exit status {server.returncode}).")
            try: urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{home}/api", timeout=5); break
            except (urllib.error.URLError, OSError): time.sleep(0.1)
        else: sys.exit("JupyterLab did not answer within a minute.")
        address = f"{home}/lab/tree/index.ipynb?token={token}"
        print(f"The course is open at {address}\nStop it with Ctrl-C here.", flush=True)
        if args.browser.lower() not in ("no", "none", "0", "false", "off"): webbrowser.open(address)
        server.wait()
    except KeyboardInterrupt: pass
    finally:
        if server.poll() is None:
            server.terminate()
            try: server.wait(10)
            except subprocess.TimeoutExpired: server.kill()
            print(f"\nClosed. What you saved is in {folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder}/.")


if __name__ == "__main__": main()
