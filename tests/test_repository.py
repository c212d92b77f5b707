"The repository's own rules: what is generated, imported, required, saved and pinned."

import ast
import json
import re
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import pytest
from bounded import bounded
from fresh import code_hash, stale
from house import LIB, NBS, ROOT, imported, notebooks, parsed, settings, untidy
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name


def cells(path, kind="code"):
    "The sources of a notebook's cells."
    saved = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(c["source"]) for c in saved if c["cell_type"] == kind]


def by_name(paths, top):
    return {p.relative_to(top): p.read_bytes() for p in paths if p.exists()}


def generated(top):
    "What `make export` writes, from the notebooks below this folder."
    library = top / LIB.name
    return by_name(
        [
            *(
                p
                for p in (top / "nbs").glob("*.ipynb")
                if p.name[0] not in "_."
            ),
            *library.glob("*.py"),
            library / "exercises.json",
            top / "README.md",
        ],
        top,
    )


def exported_copy(folder):
    "A copy of the notebooks, exported into a library that was empty before."
    top = Path(folder)
    shutil.copy(ROOT / "settings.ini", top)
    for source, pattern in [(NBS, "*.ipynb"), (ROOT / "scripts", "*.py")]:
        (top / source.name).mkdir()
        for path in source.glob(pattern):
            shutil.copy(path, top / source.name)
    (top / LIB.name).mkdir()
    shutil.copy(LIB / "__init__.py", top / LIB.name)
    said = bounded([sys.executable, "scripts/export.py"], 300, 1, cwd=top)
    assert said is None, said
    return generated(top)


def test_what_is_generated_is_current():
    with tempfile.TemporaryDirectory() as folder:
        made = exported_copy(folder)
    stands = generated(ROOT)
    assert not stands.keys() - made.keys(), "no notebook exports these: delete"
    wrong = [str(n) for n in sorted(made) if stands.get(n) != made[n]]
    assert not wrong, f"`make export` mends: {', '.join(wrong)}"


# Imports run only forward, in the order in which a reader meets the modules.


def place(path):
    "A notebook's number; 99 for the index."
    return int(path.name[:2]) if path.name[:2].isdigit() else 99


def exported_module(path):
    found = re.search(
        r"^#\|\s*default_exp\s+(\w+)", "\n".join(cells(path)), re.M
    )
    return found and found[1]


MODULES = {exported_module(path): place(path) for path in notebooks()}


def sources(path):
    "Names and code to look at: a notebook's cells, and its module."
    yield path.name, [parsed(cell) for cell in cells(path)]
    module = LIB / f"{exported_module(path)}.py"
    if module.exists():
        yield module.name, [ast.parse(module.read_text(encoding="utf-8"))]


def may_import(name, here, there):
    """A chapter sees earlier chapters and the modules behind the course (90 and
    up), which see only core and one another; their pages may show everything."""
    if here >= 90:
        return name.endswith(".ipynb") or there >= 90 or there == 0
    same = there == here and name.endswith(".ipynb")
    return there < here or there >= 90 or same


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_imports_run_forward(path):
    for name, trees in sources(path):
        for module in {m for tree in trees for m in imported(tree)}:
            if module not in MODULES:
                assert (LIB / f"{module}.py").exists(), f"{name}: no {module}"
                continue
            allowed = may_import(name, place(path), MODULES[module])
            assert allowed, f"{name} imports {module}, which comes later"


# What a learner without the repository installs must bring what is imported.


def top_names(node):
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and not node.level:
        return {node.module.split(".")[0]}
    return set()


def not_brought(nodes, kinds):
    "Imported packages that these requirements in settings.ini do not bring."
    named = {
        canonicalize_name(Requirement(word).name)
        for kind in kinds
        for word in settings()[kind].split()
    }
    brought = metadata.packages_distributions()
    names = {name for node in nodes for name in top_names(node)}
    ours = set(sys.stdlib_module_names) | {LIB.name}
    return {
        name
        for name in names - ours
        if not named & set(map(canonicalize_name, brought.get(name, [])))
    }


def test_the_library_finds_what_it_imports():
    nodes = [
        node
        for path in LIB.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
    ]
    assert not not_brought(nodes, ["requirements"])


def test_the_notebooks_find_what_they_import():
    nodes = [
        node
        for path in notebooks()
        for cell in cells(path)
        for node in ast.walk(parsed(cell))
    ]
    assert not not_brought(nodes, ["requirements", "learn_requirements"])


def test_pinned_versions_serve_the_oldest_python():
    oldest = settings()["min_python"] + ".0"
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.M))
    for found in metadata.distributions():
        name, needs = found.metadata["Name"], found.metadata["Requires-Python"]
        pinned = pins.get(name) == found.version.split("+")[0]
        if pinned and needs:
            fits = SpecifierSet(needs).contains(oldest)
            assert fits, f"{name}=={pins[name]} needs Python {needs}"


# What is saved in the notebooks.


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_a_saved_notebook_is_tidy(path):
    assert not untidy(path)


def test_outputs_are_as_new_as_their_code():
    assert not stale(notebooks())


CODE = """from discrete_diffusion.forward import *
def f():
    'One.'
    return 1  # one"""


def hash_of(code):
    cell = {"cell_type": "code", "source": code.splitlines(keepends=True)}
    return code_hash({"cells": [cell]})


@pytest.mark.parametrize("old, new", [("# one", "# 1"), ("'One.'", "'1.'")])
def test_words_do_not_make_outputs_old(old, new):
    assert hash_of(CODE.replace(old, new)) == hash_of(CODE)


@pytest.mark.parametrize(
    "old, new", [("return 1", "return 2"), ("forward", "posterior")]
)
def test_code_does(old, new):
    assert hash_of(CODE.replace(old, new)) != hash_of(CODE)


def test_a_chapter_has_one_name_on_its_page_in_the_sidebar_and_in_the_table():
    sidebar = (ROOT / "_quarto.yml").read_text(encoding="utf-8")
    table = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "nbs").glob("[0-9]*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts = ["".join(c["source"]) for c in cells]
        title = next(t for t in texts if t.startswith("# ")).splitlines()[0]
        name = f"{path.stem[:2]} {title[2:]}"
        assert f'text: "{name}"' in sidebar, name
        assert f"[{name}](nbs/{path.name})" in table, name
