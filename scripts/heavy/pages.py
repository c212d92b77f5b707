"The site builds, with a page for every notebook; and what it must complain about, it complains about, with file and cell."

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
import build_site as site
import nbformat
from bs4 import BeautifulSoup
from dress import fold_long
from finish import parts_of, set_formulas
from house import notebooks

PAGE = """<html><head><script src='https://elsewhere.example/a.js'></script></head><body><h2 id='here'>x</h2><a href='#here'>good</a><a href='#gone'>a</a>
<a href='none.html'>b</a><img src='none.png'></body></html>"""
SAYS = [
    "loads https://elsewhere.example/a.js from another host",
    "the anchor of #gone",
    "the link none.html leads nowhere",
    "none.png is missing",
]


def pages_are_looked_at():
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "page.html").write_text(PAGE)
        said = site.look_at(Path(folder))
        assert len(site.absent(Path(folder))) == len(notebooks())
        assert len(said) == len(SAYS) and all(
            any(w in s for s in said) for w in SAYS
        ), said
        (Path(folder) / "page.html").write_text(
            "<script src='https://cdn.example/ajax/libs/require.js/2.3.6/require.min.js'></script><script src='https://cdn.example/other.js'></script>"
        )
        site.finish(Path(folder))
        assert (
            len(site.look_at(Path(folder))) == 1
            and "other.js" in site.look_at(Path(folder))[0]
        )
    soup = BeautifulSoup(
        r"<span class='math'>\(\frac{1}{2} \log p\)</span><span class='math'>\(\nosuchthing x\)</span><span class='math'>\(\mathbf 1\)</span>",
        "html.parser",
    )
    said = set_formulas(soup, "page.html")
    assert len(said) == 1 and "nosuchthing" in said[0], said
    assert (
        len(soup.select("math")) == 3
        and soup.select("mfrac")
        and soup.select("mspace")
        and "𝟏" in soup.get_text()
    )
    assert parts_of(
        r"a \qquad \frac{b \qquad c}{d} \qquad \begin{cases} e \qquad f \end{cases}"
    ) == [
        "a ",
        r" \frac{b \qquad c}{d} ",
        r" \begin{cases} e \qquad f \end{cases}",
    ]
    cell = nbformat.v4.new_code_cell(
        "x",
        outputs=[
            nbformat.v4.new_output("stream", text="a < b\n" * n)
            for n in (41, 40)
        ],
    )
    fold_long(cell)
    assert (
        [o.output_type for o in cell.outputs] == ["display_data", "stream"]
        and "41 lines" in cell.outputs[0].data["text/html"]
        and "a &lt; b" in cell.outputs[0].data["text/html"]
    )


def notebooks_are_looked_at():
    "A course with one of each fault: the build must name file and cell of each, and of nothing else."
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder) / "course"
        names = subprocess.run(
            [
                "git",
                "ls-files",
                "nbs",
                "scripts",
                "discrete_diffusion",
                "settings.ini",
                "_quarto.yml",
            ],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        for name in names:
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, top / name)

        path = top / "nbs" / "03_forward.ipynb"
        nb = nbformat.read(path, as_version=4)
        n = len(nb.cells)
        check = next(
            i
            for i, c in enumerate(nb.cells)
            if c.source.startswith("#| check 3.2")
        )
        exercise = next(
            i
            for i, c in enumerate(nb.cells)
            if c.source.startswith("#| exercise 3.2")
            or "#| exercise 3.2" in c.source
        )
        nb.cells[check].source = nb.cells[check].source.replace(
            "#| check 3.2\n", ""
        )
        nb.cells += [
            nbformat.v4.new_markdown_cell("A [link](31_nowhere.ipynb)."),
            nbformat.v4.new_markdown_cell("![A picture](gone.png)"),
            nbformat.v4.new_code_cell("#| exprots\nx = 1"),
        ]
        nbformat.write(nb, path)
        nbformat.write(nb, top / "nbs" / "31_new.ipynb")
        done = subprocess.run(
            [sys.executable, "scripts/build_site.py"],
            cwd=top,
            capture_output=True,
            text=True,
        )
        wanted = [
            f"03_forward.ipynb, cell {n}: the link 31_nowhere.ipynb leads nowhere",
            f"03_forward.ipynb, cell {n + 1}: the picture gone.png leads nowhere",
            f"03_forward.ipynb, cell {n + 2}: an unknown directive, #| exprots",
            f"03_forward, cell {exercise}: exercise 3.2 has no check",
            "31_new.ipynb: not in the sidebar of _quarto.yml",
        ]
        assert done.returncode and all(w in done.stderr for w in wanted), (
            done.stderr
        )
        assert all(
            "03_forward" in line or "31_new" in line
            for line in done.stderr.strip().splitlines()
        ), done.stderr


def formulas_in(path):
    "How many formulas the prose of a notebook holds, by another reader of Markdown than the pages'."
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    reader = (
        MarkdownIt()
        .enable("table")
        .use(dollarmath_plugin, allow_space=True, allow_digits=False)
    )
    tokens = [
        t
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "markdown"
        for t in reader.parse(cell.source)
    ]
    return sum(
        t.type.startswith("math")
        for block in tokens
        for t in [block, *(block.children or [])]
    )


WORDS = (
    "Open in Colab",
    "min to read",
    "outputs of this page were made on",
)


def every_page_is_dressed(pages):
    for path in notebooks():
        assert (ROOT / "_docs" / "notebooks" / path.name).exists(), path.name
        if path.stem[0].isdigit():
            wanted = (*WORDS, f'href="notebooks/{path.name}"')
            assert all(w in pages[path.stem] for w in wanted), path.stem


def no_formula_is_lost(pages):
    "How many there are."
    shown = {name: page.count("<math") for name, page in pages.items()}
    written = {p.stem: formulas_in(p) for p in notebooks()}
    lost = [
        f"{name}: {n} formulas in the notebook, {shown[name]} on the page"
        for name, n in written.items()
        if shown[name] < n
    ]
    assert not lost, lost
    return sum(shown.values())


def main():
    start = time.time()
    pages_are_looked_at()
    notebooks_are_looked_at()
    built = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "build_site.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    said = built.stdout
    assert built.returncode == 0, f"{said[-2000:]}\n{built.stderr[-4000:]}"
    pages = {
        p.stem: (ROOT / "_docs" / f"{p.stem}.html").read_text(encoding="utf-8")
        for p in notebooks()
    }
    every_page_is_dressed(pages)
    formulas = no_formula_is_lost(pages)
    print(
        f"{said.splitlines()[-1]}; {formulas:,} formulas; {time.time() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
