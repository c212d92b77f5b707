"README.md from nbs/index.ipynb, without executing anything: saved outputs are shown; cells that a page hides, or shows without their code, are left out."

import re

import nbformat
from house import NBS, ROOT, write_atomically
from nbconvert import MarkdownExporter


def text():
    nb = nbformat.read(NBS / "index.ipynb", as_version=4)
    nb.cells = [
        c
        for c in nb.cells
        if not re.match(r"\s*#\|\s*(hide\b|echo: *false)", c.source)
    ]
    nb.metadata.language_info = {
        "name": "python"
    }  # nbdev_clean takes it away, the code blocks need it
    for c in nb.cells:
        c.source = re.sub(
            r"^<!-- [\w-]+ -->\n", "", c.source
        )  # the look of a block, for the page
    body, resources = MarkdownExporter().from_notebook_node(nb)
    if resources.get("outputs"):
        raise SystemExit(
            "README: a picture among the outputs of nbs/index.ipynb has no place in README.md."
        )
    body = re.sub(
        r"\]\((?!\w+:|#|/)([^)\s]+\.(?:ipynb|svg))", r"](nbs/\1", body
    )  # chapters and the picture, seen from the top folder
    body = re.sub(
        r"(?<!\[)`(CONTRIBUTING\.md|LICENSE)`", r"[`\1`](\1)", body
    )  # these files are no pages of the site
    return (
        "<!-- Generated from nbs/index.ipynb by `make export`: edit the notebook. -->\n\n"
        + re.sub(r"\n{3,}", "\n\n", body).strip()
        + "\n"
    )


def write():
    write_atomically(ROOT / "README.md", text())


if __name__ == "__main__":
    write()
