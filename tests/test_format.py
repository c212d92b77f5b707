"Notebooks, scripts and tests are in standard format, and ruff has nothing to say of them."

import subprocess
import sys

import pytest
from house import ROOT, notebooks

# Notebooks of which `ruff check` still says something: one that is done leaves the list.
LATER = {
    "11_ctmc",
    "12_bounds",
    "13_transformer",
    "14_sedd",
    "15_mdlm",
    "16_flow",
    "17_samplers",
    "23_capstones",
    "90_viz",
    "91_exercises",
    "92_pretrained",
    "93_notation",
    "94_equations",
}
FILES = [
    *sorted((ROOT / "scripts").rglob("*.py")),
    *sorted((ROOT / "tests").rglob("*.py")),
    *notebooks(),
]


def ruff(*words):
    "What it complains of, '' if of nothing."
    options = ["--config", str(ROOT / "ruff.toml"), "--no-cache", "--quiet"]
    command = [sys.executable, "-m", "ruff", *words, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    said = done.stdout + done.stderr
    return said or f"exit status {done.returncode}" if done.returncode else ""


def complaints(path):
    said = ruff("format", "--check", path)
    if path.suffix == ".ipynb" and path.stem in LATER:
        return said
    return said + ruff("check", path)


@pytest.mark.parametrize(
    "path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_it_is_in_standard_format(path):
    said = complaints(path)
    assert not said, said


def test_what_is_not_done_yet_is_there():
    assert {path.stem for path in notebooks()} >= LATER


@pytest.mark.parametrize(
    "source, says",
    [
        ("x = 1\n", ""),
        ("x = {'a':1}\n", "unformatted"),
        ("f = lambda x: x\n", "E731"),
        ("import os\n", "F401"),
    ],
)
def test_a_bad_file_is_complained_about(tmp_path, source, says):
    path = tmp_path / "bad.py"
    path.write_text(source)
    said = complaints(path)
    assert says in said if says else not said
