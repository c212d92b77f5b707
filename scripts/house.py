"What the scripts share: where things are, the chapters, and what a saved notebook may hold."

import ast
import json
import os
import platform
import re
import sys
import tempfile
from configparser import ConfigParser
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
LIB = ROOT / "discrete_diffusion"
LONG = {
    "10_d3pm": 1800,
    "15_mdlm": 1200,
    "14_sedd": 1200,
    "20_blocks": 900,
}  # notebooks that train: they start first, and may take so many seconds


def notebooks():
    "The notebooks in the order in which they are read, index last."
    found = [p for p in NBS.glob("*.ipynb") if p.name[0] not in "_."]
    return sorted(found, key=lambda p: (not p.name[0].isdigit(), p.name))


def find_chapter(name):
    "The notebook meant by `10_d3pm`, `10_d3pm.ipynb`, `nbs/10_d3pm.ipynb`, `10` or `d3pm`; one sentence and the end otherwise."
    stem = Path(name.strip()).name.removesuffix(".ipynb")
    for p in notebooks():
        if stem in (p.stem, *p.stem.split("_", 1)):
            return p
    have = ", ".join(p.stem for p in notebooks())
    sys.exit(
        f"There is no chapter {name!r}, there are: {have}."
        if stem
        else f"Say which chapter, as in CHAPTER=03_forward; there are: {have}."
    )


def can_be_written(folder):
    "Can files be made in it, once it is there? Nothing is left behind."
    try:
        while not folder.exists():
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@lru_cache(None)
def spare_home():
    "Where things go that the home folder cannot take: into the virtual environment."
    folder = Path(sys.prefix) / "home"
    if can_be_written(folder):
        return folder
    return Path(tempfile.mkdtemp(prefix="course-home-"))


def usual_folders():
    "What Jupyter, IPython, matplotlib and the course keep of a user, and where."
    given, home = os.environ.get, Path(os.path.expanduser("~"))
    shared = home / ".local" / "share"
    if sys.platform == "darwin":
        data = home / "Library" / "Jupyter"
    elif os.name == "nt":
        data = Path(given("APPDATA") or home) / "jupyter"
    else:
        data = Path(given("XDG_DATA_HOME") or shared) / "jupyter"
    data = Path(given("JUPYTER_DATA_DIR") or data)
    return {
        "JUPYTER_CONFIG_DIR": home / ".jupyter",
        "JUPYTER_DATA_DIR": data,
        "JUPYTER_RUNTIME_DIR": data / "runtime",
        "IPYTHONDIR": home / ".ipython",
        "MPLCONFIGDIR": home / ".config" / "matplotlib",
        "DISCRETE_DIFFUSION_PROGRESS": shared / LIB.name / "progress.jsonl",
    }


def own_folders():
    """Variables that lead to folders of our own; none where the usual ones serve.

    Where one cannot be written to (a home that is read-only, or belongs to
    root), a folder in the virtual environment takes its place, and settings in
    the old place are still read.
    """
    made = {}
    for name, usual in usual_folders().items():
        folder = Path(os.environ.get(name) or usual)
        if can_be_written(folder.parent if folder.suffix else folder):
            continue
        instead = spare_home() / (name.lower() + folder.suffix)
        (instead.parent if folder.suffix else instead).mkdir(
            parents=True, exist_ok=True
        )
        made[name] = str(instead)
        search = {
            "JUPYTER_CONFIG_DIR": "JUPYTER_CONFIG_PATH",
            "JUPYTER_DATA_DIR": "JUPYTER_PATH",
        }.get(name)
        if search:
            paths = [os.environ.get(search), str(folder)]
            made[search] = os.pathsep.join(filter(None, paths))
    return made


def environment(threads=None):
    "The environment of a process that runs a notebook: this Python's kernel, folders that it can write to, and `threads` threads (None: all)."
    env = dict(os.environ, JUPYTER_PREFER_ENV_PATH="1") | own_folders()
    for name in (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "IN_TEST",
        "MPLBACKEND",
    ):
        env.pop(name, None)
    if threads is not None:
        env.update(
            {
                n: str(threads)
                for n in (
                    "OMP_NUM_THREADS",
                    "MKL_NUM_THREADS",
                    "OPENBLAS_NUM_THREADS",
                )
            }
        )
    return env


def write_atomically(path, data):
    "All of `data` or what stood there before, whatever happens in between."
    data = data if isinstance(data, bytes) else data.encode("utf-8")
    part = path.with_name(f".{path.name}.part")
    with open(part, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.replace(part, path)


def machine():
    "The class of machine that measures, without its name."
    import torch

    return {
        "processors": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 1)
        if hasattr(os, "getloadavg")
        else None,
    }  # what else was running: it stretches the seconds


def settings():
    "settings.ini as a mapping of strings."
    read = ConfigParser(delimiters=["="])
    read.read(ROOT / "settings.ini", encoding="utf-8")
    return read["DEFAULT"]


def parsed(source):
    "The syntax tree of a cell, magics and shell lines as IPython turns them into Python. Raises SyntaxError."
    from IPython.core.inputtransformer2 import TransformerManager

    return ast.parse(TransformerManager().transform_cell(source))


def imported(tree):
    "Modules of the course that a piece of code imports."
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(
                filter(None, [LIB.name if node.level else "", node.module])
            )
            names = (
                [f"{base}.{a.name}" for a in node.names]
                if base == LIB.name
                else [base]
            )
        else:
            continue
        yield from (
            n.split(".")[1] for n in names if n.startswith(LIB.name + ".")
        )


OUTPUT_LIMIT = 400_000  # characters of saved outputs in one notebook; pictures have twice the dots they are shown at
OF_ONE_MACHINE = re.compile(
    r"(?:/home|/root|/Users|/tmp|/work|/mnt)/[\w.\-]+|[A-Z]:\\+Users\\+\w+"
)


def imports_beside_code(source):
    "nbdev's own rule for the cells that it executes while it builds a page; exported cells it executes anyway."
    if re.match(r"#\|\s*(export|eval: *false)", source):
        return False
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return False  # a magic
    return any(
        isinstance(n, (ast.Import, ast.ImportFrom)) for n in nodes
    ) and any(isinstance(n, (ast.Expr, ast.Assign)) for n in nodes)


def untidy(path):
    "Complaints about a notebook as it is saved: what a reader of the page, or the page itself, would stumble over."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    said = [*faults_of_title(cells)]
    for i, cell in enumerate(cells):
        for fault in (*faults_of_source(cell), *faults_of_outputs(cell)):
            said.append(f"cell {i}: {fault}")
    size = sum(
        len(json.dumps(out))
        for cell in cells
        for out in cell.get("outputs", [])
    )
    if size > OUTPUT_LIMIT:
        said.append(
            f"{size / 1000:.0f} kB of saved outputs, {OUTPUT_LIMIT / 1000:.0f} are allowed"
        )
    return said


def faults_of_title(cells):
    "The first heading stands with its subtitle alone."
    for i, cell in enumerate(cells):
        text = "".join(cell["source"])
        if cell["cell_type"] != "markdown":
            continue
        if re.search(r"^#\s+\S", text, re.M):
            if not re.fullmatch(r"#\s+[^\n]+\s*(>\s[^\n]+\s*)?", text):
                yield f"cell {i}: text beside the title and its one-line subtitle, which the page drops: give it a cell of its own"
            return
    yield "no title: a markdown cell with `# Title` and, below it, one line `> subtitle`"


def faults_of_source(cell):
    if isinstance(cell["source"], str) and "\n" in cell["source"]:
        yield "the source is one string, not a list of lines"
    is_code = cell["cell_type"] == "code"
    if is_code and imports_beside_code("".join(cell["source"])):
        yield "imports beside other code, which the page build would run: give them a cell of their own"


def faults_of_outputs(cell):
    for out in cell.get("outputs", []):
        if out["output_type"] == "error":
            yield f"a saved error, {out['ename']}"
        if out.get("name") == "stderr":
            warning = "".join(out["text"]).strip()[:100]
            yield f"a saved warning, {warning!r}"
        if hit := OF_ONE_MACHINE.search(words_of(out)):
            yield f"a saved path of one machine, {hit[0]}"


def words_of(out):
    "An output as text, without its pictures."
    parts = {
        kind: part
        for kind, part in out.get("data", out).items()
        if not kind.startswith("image/")
    }
    return json.dumps(parts, ensure_ascii=False)
