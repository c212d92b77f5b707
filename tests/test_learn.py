"`make learn` on other people's machines: a port that is taken, a home that cannot be written to, odd notebooks."

import os
import re
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import pytest


@contextmanager
def learn(root, port, home, *words, env=None):
    "The script on its way, its output a list of lines to come."
    command = [sys.executable, str(root / "scripts" / "learn.py")]
    command += ["--browser", "no", "--port", str(port), *words]
    env = {**os.environ, "HOME": str(home), **(env or {})}
    for name in list(env):
        if name.startswith(("JUPYTER", "IPYTHONDIR", "MPLCONFIGDIR", "XDG")):
            del env[name]
    process = subprocess.Popen(
        command,
        env=env,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=800)


def address(process):
    heard = []
    for line in process.stdout:
        heard.append(line)
        if found := re.search(r"http://127\.0\.0\.1:(\d+)/\S+", line):
            return found[0], int(found[1]), "".join(heard)
    raise AssertionError("no address: " + "".join(heard))


def page(address):
    "What a browser without a cookie gets; an HTTPError for 403."
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=60) as answer:
        assert answer.status == 200
        return answer.read().decode()


def free_port():
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.heavy
def test_two_at_once_on_one_port(root, tmp_path):
    "Both look, both find the port free, both start: each must name its own."
    port, solved = free_port(), ("--solved", "yes")
    with (
        learn(root, port, tmp_path, *solved) as one,
        learn(root, port, tmp_path, *solved) as two,
    ):
        first, second = address(one), address(two)
        assert first[1] != second[1]
        assert port in (first[1], second[1])
        for where, _, _ in (first, second):
            assert "JupyterLab" in page(where)
    assert re.search(
        rf"Port {port} is taken, so it is \d+\.", first[2] + second[2]
    )


def test_a_home_that_cannot_be_written_to(root, tmp_path):
    "As good as read-only, for root too: its path leads through a file."
    (tmp_path / "file").write_text("")
    home = tmp_path / "file" / "home"
    with learn(root, free_port(), home, "--solved", "yes") as process:
        where, _, said = address(process)
        assert "JupyterLab" in page(where)
        assert "Traceback" not in said
        assert "Your home folder cannot be written to" in said


@pytest.mark.heavy
def test_another_program_takes_the_port_in_between(root, tmp_path, monkeypatch):
    "It answers 403, as a JupyterLab with another token does."
    import http.server
    import threading

    import learn as script

    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(403)

        def log_message(self, *words):
            pass

    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    port, token = other.server_port, "0123456789abcdef"
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    server, home = script.opened(root / "nbs", port, token)
    try:
        assert f":{port}/" not in home
        assert "JupyterLab" in page(f"{home}lab?token={token}")
    finally:
        script.end(server)
        other.shutdown()
