"""Are the saved outputs those of the code that stands above them?

A notebook that was run in place carries, in its metadata, the hash of the code that produced its outputs, and when and with what that was. The code is
its own cells and the modules of the course that they import, as the parser sees them: comments, docstrings and the marks of nbdev do not count, nor
does the module of the exercises, which draws and computes nothing.

    fresh.py            which notebooks are stale
"""

import ast
import hashlib
import json
import platform
import sys
import time
from functools import lru_cache
from importlib.metadata import version

from house import LIB, imported, machine, notebooks, parsed

SHOWN = ("torch", "numpy", "matplotlib")  # packages whose versions a page names
SILENT = {"exercises"}


def essence(node):
    "A piece of code as nested lists, without docstrings and places. (`ast.dump` would do, but each Python prints its own.)"
    if isinstance(node, list):
        return [essence(n) for n in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    body = getattr(node, "body", None)
    if (
        isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and ast.get_docstring(node, clean=False) is not None
    ):
        body = body[1:]
    return [
        type(node).__name__,
        *(
            [name, essence(body if name == "body" else value)]
            for name, value in ast.iter_fields(node)
            if value not in (None, [])
        ),
    ]


@lru_cache(None)
def module_code(name):
    "What a module does, and which modules of the course it imports; nothing where the package has no such module."
    path = LIB / f"{name}.py"
    tree = ast.parse(path.read_text(encoding="utf-8") if path.exists() else "")
    return json.dumps(essence(tree)), tuple(sorted(set(imported(tree))))


def code_hash(nb):
    "Sixteen digits for the code cells of a notebook (a dict, as JSON has it) and all modules of the course below them."
    trees = [
        parsed("".join(c["source"]))
        for c in nb["cells"]
        if c["cell_type"] == "code"
    ]
    todo, seen = {m for tree in trees for m in imported(tree)}, set()
    while todo - seen - SILENT:
        name = min(todo - seen - SILENT)
        seen.add(name)
        todo |= set(module_code(name)[1])
    parts = [json.dumps(essence(tree)) for tree in trees] + [
        module_code(name)[0] for name in sorted(seen)
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def stamp(nb):
    "What a run leaves in the metadata: the code's hash, the day, the versions, the class of machine."
    here = machine()
    nb["metadata"]["course"] = {
        "code": code_hash(nb),
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        **{name: version(name).split("+")[0] for name in SHOWN},
        "machine": f"{here['processors']} processors, {here['architecture']}, {here['system']}",
    }


def stale(paths):
    "Complaints: notebooks whose outputs are not known to come from their code."
    said = []
    for path in paths:
        nb = json.loads(path.read_text(encoding="utf-8"))
        left = nb["metadata"].get("course", {}).get("code")
        if left is None:
            said.append(
                f"{path.name}: nothing says which code its outputs come from: `make notebooks CHAPTER={path.stem}` runs it"
            )
        elif left != code_hash(nb):
            said.append(
                f"{path.name}: its outputs are older than its code: `make notebooks CHAPTER={path.stem}` makes them anew"
            )
    return said


if __name__ == "__main__":
    said = stale(notebooks())
    if said:
        sys.exit("\n".join(said))
    print("All outputs come from the code that stands.")
