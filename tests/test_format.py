"Notebooks, scripts and tests are in standard format, and ruff has nothing to say of them."

import json
import re
import subprocess
import sys

import pytest
from house import ROOT, notebooks

FILES = [
    *sorted((ROOT / "scripts").rglob("*.py")),
    *sorted((ROOT / "tests").rglob("*.py")),
    *notebooks(),
]


def ruff(*words, text=None):
    "What it complains of, '' if of nothing; `text` is what it reads for '-'."
    options = ["--config", str(ROOT / "ruff.toml"), "--no-cache", "--quiet"]
    command = [sys.executable, "-m", "ruff", *words, *options]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, input=text
    )
    said = done.stdout + done.stderr
    return said or f"exit status {done.returncode}" if done.returncode else ""


def complaints(path):
    return ruff("format", "--check", path) + ruff("check", path)


@pytest.mark.parametrize(
    "path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_it_is_in_standard_format(path):
    said = complaints(path)
    assert not said, said


def stubs(path):
    "The code that stands in the text: what learners start from, and examples."
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            yield from re.findall(r"(?ms)^```python\n(.*?)^```", text)


def as_code(text):
    return ruff("format", "--check", "--stdin-filename", "a.py", "-", text=text)


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_stubs_are_in_standard_format(path):
    packed = [stub for stub in stubs(path) if as_code(stub)]
    assert not packed, "\n".join(packed)


def test_a_packed_stub_is_found():
    assert as_code("if x: y = 1; z = 2\n") and not as_code("x = ...\n")


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
