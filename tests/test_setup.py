"The set-up command: which PyTorch comes, how much it takes, and for whom there is none."

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import namedtuple

import pytest
import setup_env

Usage = namedtuple("Usage", "total used free")
PIP = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]


def wheel(folder, version, *needs):
    "A package named torch with nothing in it but what it needs."
    name = f"torch-{version}-py3-none-any.whl"
    info = f"torch-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", "Name: torch", f"Version: {version}"]
    lines += [f"Requires-Dist: {need}" for need in needs]
    with zipfile.ZipFile(folder / name, "w") as made:
        made.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        made.writestr(f"{info}/RECORD", "")
        tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        made.writestr(f"{info}/WHEEL", tag)


@pytest.fixture
def index(tmp_path, monkeypatch):
    "A package index of ours, and the only one."
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setattr(setup_env, "PYTHON", sys.executable)
    return tmp_path


def pinned(root):
    lines = (root / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    return pins["torch"]


def test_the_build_that_comes(root, index):
    version = pinned(root)
    assert setup_env.build_that_comes(PIP) is None
    never = "nvidia-nccl; platform_system == 'Plan 9'"
    wheel(index, version, "filelock", "nvidia-nccl; platform_system != 'X'")
    assert setup_env.build_that_comes(PIP) == "cuda"
    wheel(index, version + "+cpu", "filelock", never)
    assert setup_env.build_that_comes(PIP) == "cpu"


@pytest.mark.parametrize(
    "free, build, stops",
    [(4e9, "cpu", False), (4e9, "cuda", True), (2e9, "cpu", True)],
)
def test_the_disk_for_that_build(monkeypatch, free, build, stops):
    usage = Usage(1e12, 1e12 - free, free)
    monkeypatch.setattr(setup_env.shutil, "disk_usage", lambda where: usage)
    if not stops:
        return setup_env.check_disk(build)
    with pytest.raises(SystemExit) as caught:
        setup_env.check_disk(build)
    said = str(caught.value)
    assert f"{free / 1e9:.1f} GB are free" in said and "\n" not in said
    assert ("PIP_EXTRA_INDEX_URL" in said) == (build == "cuda")


def test_a_link_to_an_environment_of_others_is_left_alone(root, tmp_path):
    "As in a git worktree: nothing in it may be deleted, whatever its stamp says."
    theirs = tmp_path / "theirs" / ".venv"
    (theirs / "bin").mkdir(parents=True)
    (theirs / "bin" / "python").symlink_to(sys.executable)
    for name in ("pyvenv.cfg", "installed"):
        (theirs / name).write_text("of another folder\n")
    mine = tmp_path / "mine"
    (mine / "scripts").mkdir(parents=True)
    for name in ("settings.ini", "setup.py", "constraints.txt"):
        shutil.copy(root / name, mine)
    shutil.copy(root / "scripts" / "setup_env.py", mine / "scripts")
    (mine / ".venv").symlink_to(theirs, target_is_directory=True)
    before = sorted(p.name for p in theirs.rglob("*"))
    # An index that has nothing, so that nothing could be installed either.
    env = {**os.environ, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    env.pop("PIP_FIND_LINKS", None)
    command = [sys.executable, str(mine / "scripts" / "setup_env.py")]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert "is a link" in done.stderr and "left alone" in done.stderr
    assert sorted(p.name for p in theirs.rglob("*")) == before


def heard(monkeypatch, system, machine, translated=False):
    monkeypatch.setattr(setup_env.sys, "platform", system)
    monkeypatch.setattr(setup_env.platform, "machine", lambda: machine)
    monkeypatch.setattr(setup_env, "translated", lambda: translated)
    try:
        setup_env.check_processor()
    except SystemExit as e:
        return str(e)


def test_macs(monkeypatch):
    said = heard(monkeypatch, "darwin", "x86_64")
    assert "Intel processor" in said and "since its version 2.3" in said
    said = heard(monkeypatch, "darwin", "x86_64", translated=True)
    assert "Apple silicon" in said and "PYTHON=" in said
    assert heard(monkeypatch, "darwin", "arm64") is None
    assert heard(monkeypatch, "linux", "x86_64") is None


def test_no_package_for_this_machine(monkeypatch):
    "Python is blamed only where it is outside what the course is tried on."
    log = (
        "ERROR: Could not find a version that satisfies the requirement "
        "torch==9.9 (from versions: 1.0)\n"
        "ERROR: No matching distribution found for torch==9.9"
    )
    monkeypatch.setattr(setup_env.sys, "version_info", (3, 12, 1))
    assert "for this kind of machine, " in setup_env.explain(log)
    monkeypatch.setattr(setup_env.sys, "version_info", (3, 99, 1))
    assert "for Python 3.99" in setup_env.explain(log)


def test_the_readme_says_both_numbers_where_the_command_stands(root):
    text = (root / "README.md").read_text(encoding="utf-8")
    start = text.index("\n## Start")
    block = text[text.index("```bash", start) : text.index("make test", start)]
    assert "1.7 GB" in block and "6.0 GB" in block
    assert block.index("PIP_EXTRA_INDEX_URL") < block.index("make learn")
    for build, said in [("cpu", "1.7 GB"), ("cuda", "6.0 GB")]:
        assert f"{setup_env.SIZES[build][0] / 1e9:.1f} GB" == said


def test_an_old_python_can_read_it(root):
    "No f-strings even; Python 2 would stop at bytes that begin with rb, and at letters beyond ASCII."
    source = (root / "scripts" / "setup_env.py").read_text(encoding="utf-8")
    assert "from __future__ import print_function" in source
    assert not re.search(r"[^\"]\brb[\"']", source) and source.isascii()
    command = [sys.executable, "-c", "import ast, sys; ast.parse("]
    command[-1] += "sys.stdin.read(), feature_version=(3, 4))"
    subprocess.run(command, input=source, text=True, check=True)
