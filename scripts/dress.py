"""What a page has beyond its notebook: a bar below the title, folds around long outputs, a line at the end that says where its outputs come from.

Both renderers get it, because it is put into the processed notebooks before either sees them. Also what is wrong in the notebooks themselves,
with file and cell: links, pictures, directives, exercises, the sidebar.
"""

import ast
import html
import json
import re
from urllib.parse import unquote, urldefrag

import nbformat
import yaml
from house import NBS, ROOT, notebooks, settings
from learn import archive
from markdown_it import MarkdownIt

LONG_OUTPUT = 40  # lines; what is longer is folded
TIMES = re.compile(
    r"Minutes to read: (\d+)([^.]*)\. Seconds to run on two cores: (\d+) \(measured(?:, ([^)]*))?\)([^.]*)\.\s*$",
    re.M,
)
DIRECTIVES = set(
    ["default_exp", "export", "exports", "hide", "eval", "echo", "output", "slow", "cuda", "exercise", "check", "wrong", "code-fold", "code-summary", "fig-alt", "fig-cap"]
)


def sidebar():
    "(section, notebook, text) of every page in the order of _quarto.yml; section and text may be None."

    def pages(item, section=None):
        if isinstance(item, str):
            yield section, item, None
        elif "href" in item:
            yield section, item["href"], item.get("text")
        for sub in item.get("contents", []) if isinstance(item, dict) else []:
            yield from pages(sub, item.get("section", section))

    contents = yaml.safe_load(
        (ROOT / "_quarto.yml").read_text(encoding="utf-8")
    )["website"]["sidebar"]["contents"]
    return [p for item in contents for p in pages(item)]


# What a notebook must not have


def faults_of_cell(cell):
    "What is wrong in one cell, without a look at rendered pages."
    if cell.cell_type == "code":
        for name in re.findall(r"^#\|[ \t]*([^\s:]*)", cell.source, re.M):
            if name not in DIRECTIVES:
                yield f"an unknown directive, #| {name}"
        picture = any(
            "image/png" in out.get("data", {})
            for out in cell.get("outputs", [])
        )
        if picture and not re.search(
            r"^#\|[ \t]*(fig-alt:|hide\b)", cell.source, re.M
        ):
            yield 'a picture without words for those who do not see it: #| fig-alt: "..."'
        return
    tokens = [
        t
        for block in MarkdownIt().enable("table").parse(cell.source)
        for t in [block, *(block.children or [])]
    ]
    places = [
        ("link", t.attrs["href"]) for t in tokens if t.type == "link_open"
    ] + [("picture", t.attrs["src"]) for t in tokens if t.type == "image"]
    for t in tokens:
        if t.type in ("html_block", "html_inline"):
            places += [
                ("picture" if name == "src" else "link", html.unescape(value))
                for name, value in re.findall(
                    r"""\b(src|href)\s*=\s*["']([^"']*)""", t.content
                )
            ]
    for kind, place in places:
        file = unquote(urldefrag(place)[0])
        if (
            file
            and not re.match(r"[a-z]+:|//", place)
            and not (NBS / file).exists()
        ):
            yield f"the {kind} {place} leads nowhere"


def faults():
    "Complaints about the notebooks, each with file and cell."
    from discrete_diffusion.exercises import find_exercises

    said, listed = [], sidebar()
    there = {p.name: nbformat.read(p, as_version=4) for p in notebooks()}
    said += [
        f"{n}: not in the sidebar of _quarto.yml"
        for n in sorted(there.keys() - {n for _, n, _ in listed})
    ]
    for _, name, text in listed:
        if name not in there:
            said.append(
                f"_quarto.yml: the sidebar names {name}, which is not there"
            )
        elif name[0].isdigit() and not (text or "").startswith(name[:2] + " "):
            said.append(
                f"_quarto.yml: the sidebar calls {name} {text!r}, expected its number in front, as in '03 Forgetting'"
            )
    for name, nb in there.items():
        for i, cell in enumerate(nb.cells):
            said += [
                f"{name}, cell {i}: {fault}" for fault in faults_of_cell(cell)
            ]
        if name[0].isdigit():
            try:
                find_exercises(nb, name.removesuffix(".ipynb"))
            except ValueError as e:
                said.append(str(e))
            if not any(
                TIMES.search(c.source)
                for c in nb.cells[:4]
                if c.cell_type == "markdown"
            ):
                said.append(
                    f"{name}: no line like 'Minutes to read: 20. Seconds to run on two cores: 4 (measured).' in its first cells"
                )
    return said


def cell_of(name, text):
    "Where in a notebook `text` stands first: ', cell 12', or nothing."
    nb = (
        nbformat.read(NBS / name, as_version=4)
        if (NBS / name).is_file()
        else None
    )
    i = next(
        (i for i, c in enumerate(nb.cells if nb else []) if text in c.source),
        None,
    )
    return "" if i is None else f", cell {i}"


# What a page has more


def colab_address(name):
    user, repo = settings()["git_url"].split("/")[-2:]
    return f"https://colab.research.google.com/github/{user}/{repo}/blob/colab/{name}"


def bar(name, times, exercises):
    "The line below the title: how long it takes, and how to work through it."
    said = []
    if times:
        said += [f"{times[1]} min to read", f"{times[3]} s to run"]
    core = [e for e in exercises if not e.extra]
    extra = len(exercises) - len(core)
    if exercises:
        said.append(
            f"{len(core)} exercise{'s' * (len(core) != 1)}, {sum(e.minutes for e in core)} min"
            + (f", and {extra} extra" if extra else "")
        )
    facts = "".join(f"<span>{html.escape(s)}</span>" for s in said)
    return (
        f'<div class="course-bar"><p>{facts}</p><p><a href="{colab_address(name)}">Open in Colab</a> '
        f'<a href="notebooks/{name}" download>Download the notebook</a></p></div>'
    )


def made_line(nb, times):
    "The line at the end: where the outputs come from."
    made = nb.metadata.get("course")
    if not made:
        return '<p class="course-made">When the outputs of this page were made is not recorded.</p>'
    how = (
        ", ".join(filter(None, [times[4], times[5].lstrip(", ")]))
        if times
        else ""
    )
    took = (
        f" It took {times[3]} seconds{f' ({how})' if how else ''}."
        if times
        else ""
    )
    return (
        f'<p class="course-made">The outputs of this page were made on {made["date"]} with Python {made["python"]}, torch {made["torch"]}, '
        f"numpy {made['numpy']} and matplotlib {made['matplotlib']}, on {made['machine']}.{took}</p>"
    )


def addressed(cell, number=None):
    """The front matter of a page, its title with the number of its notebook.

    nbdev wants Quarto to call the page of 03_forward forward.html, which
    smalldocs does not read: without that, both call it 03_forward.html.
    """
    about = yaml.safe_load(cell.source.strip().strip("-"))
    about.pop("output-file", None)
    if number:
        about["title"] = f"{number} {about['title']}"
    text = yaml.safe_dump(about, allow_unicode=True)
    cell.source = f"---\n{text}---\n"


STARTS = """

<details><summary>What you start from</summary>

```python
{}
```

</details>"""


def show_exercise(cells, e):
    """On a page an exercise is one box, from its task to its check.

    It tells its stars and minutes and what a learner starts from, and has
    its check in a fold: nobody has solved it there. The box begins below
    the heading, which thus stays in the page's contents, and ends below
    the cell of the check.
    """
    heading = rf"^#+ Exercise {re.escape(e.number)}: .*$"
    task = next(
        c
        for c in cells
        if c.cell_type == "markdown" and re.search(heading, c.source, re.M)
    )
    task.source = e.headed(task.source)
    if "```python" not in task.source:
        task.source += STARTS.format(e.given)
    check = next(
        c
        for c in cells
        if c.cell_type == "code" and f'@check_answer("{e.number}"' in c.source
    )
    check.source = (
        "#| code-fold: true\n"
        f'#| code-summary: "The check of {e.number}"\n'
        f"{check.source}"
    )
    check.outputs = []
    box = "\\g<0>\n\n::::: {.course-exercise}\n"
    task.source = re.sub(heading, box, task.source, count=1, flags=re.M)
    closed = nbformat.v4.new_markdown_cell(
        ":::::", id=f"course-end-{e.number.replace('.', '-')}"
    )
    cells.insert(cells.index(check) + 1, closed)


def caption(cell):
    """A picture's caption is the first sentence of what stands for it.

    The whole of `#| fig-alt` is read to those who do not see the picture;
    `#| fig-cap` in the cell says something else to those who do.
    """
    pictures = [
        out
        for out in cell.get("outputs", [])
        if "image/png" in out.get("data", {})
    ]
    alt = re.search(r"^#\|[ \t]*fig-alt:[ \t]*(.*)$", cell.source, re.M)
    if len(pictures) != 1 or not alt:
        return
    if re.search(r"^#\|[ \t]*fig-cap:", cell.source, re.M):
        return
    words = str(yaml.safe_load(alt[1]))
    first = re.split(r"(?<=[.!?])\s+(?=[A-Z])", words.strip(), maxsplit=1)[0]
    line = f"#| fig-cap: {json.dumps(first, ensure_ascii=False)}\n"
    cell.source = cell.source.replace(alt[0] + "\n", alt[0] + "\n" + line, 1)


def fold_long(cell):
    "Long printed outputs go into a fold, with their first line to say what they are."
    for out in cell.get("outputs", []):
        text = (
            out.get("text", "")
            if out.output_type == "stream"
            else out.get("data", {}).get("text/plain", "")
            if not set(out.get("data", {})) - {"text/plain"}
            else ""
        )
        lines = text.rstrip("\n").split("\n")
        if len(lines) <= LONG_OUTPUT:
            continue
        first = next((l.strip() for l in lines if l.strip()), "")[:60]
        page = f"<details class='course-output'><summary>{len(lines)} lines of output: <code>{html.escape(first)}</code></summary><pre><code>{html.escape(text)}</code></pre></details>"
        out.clear()
        out.update(
            output_type="display_data", metadata={}, data={"text/html": page}
        )


def fold_imports(cell):
    "A page begins with its question: imports and set-up are in a fold."
    source = re.sub(r"^#\|.*\n", "", cell.source, flags=re.M).strip()
    if "code-fold" in cell.source or cell.outputs:
        return
    try:
        nodes = ast.parse(source).body
    except SyntaxError:  # a magic
        return
    setup = ("seed_everything", "set_num_threads")
    imports = [isinstance(n, (ast.Import, ast.ImportFrom)) for n in nodes]
    if nodes and (
        all(imports) or len(nodes) <= 3 and any(w in source for w in setup)
    ):
        what = "Imports" if all(imports) else "Set-up"
        cell.source = (
            f'#| code-fold: true\n#| code-summary: "{what}"\n{cell.source}'
        )


def fold_checked(cells):
    "What stands below `## How this is checked` goes into one fold."
    from discrete_diffusion.exercises import checked_part

    inside = sorted(checked_part(cells))
    if not inside:
        return
    new = nbformat.v4.new_markdown_cell
    heading, _, text = cells[inside[0]].source.partition("\n")
    title = "Tables counted out, random cases, refusals, and their power"
    opened = f'<details class="course-checked"><summary>{title}</summary>'
    parts = [new(heading), new(f"{opened}\n\n{text.strip()}")]
    closed = new("</details>")
    for cell, name in zip([*parts, closed], ("heading", "open", "close")):
        cell["id"] = f"course-checked-{name}"
    cells[inside[0] : inside[-1] + 1] = [
        *parts,
        *cells[inside[1] : inside[-1] + 1],
        closed,
    ]


def dress(path):
    "A processed notebook of _proc, in place."
    from discrete_diffusion.exercises import find_exercises

    solved, page = (
        nbformat.read(NBS / path.name, as_version=4),
        nbformat.read(path, as_version=4),
    )
    own = "{doc_host}{doc_baseurl}/".format_map(settings())
    names = {p.stem.split("_", 1)[-1]: p.name for p in notebooks()}
    plain = lambda text: re.sub(r"\[(`[^`]+`)\]\([^)]*\)", r"\1", text)
    inside = re.compile(
        r"\[([^\[\]]*(?:\[`[^`]*`\]\([^)]*\)[^\[\]]*)+)\]\("
    )  # a link in the words of a link
    stay = lambda text: re.sub(
        re.escape(own) + r"(\w+)\.html#(\w+)[\w.]*",
        lambda m: names[m[1]] + f"#{m[2]}" * (m[2][0] != "_"),
        inside.sub(lambda m: f"[{plain(m[1])}](", text),
    )  # nbdev's links to our own pages
    times = None
    for cell in page.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(
                r"\A<!-- ([\w-]+) -->\n(.*)\Z",
                r"::: {.\1}\n\2\n:::",
                cell.source,
                flags=re.S,
            )  # a comment on top names the look of a block
            if times is None and (times := TIMES.search(cell.source)):
                cell.source = TIMES.sub("", cell.source).rstrip()
            cell.source = stay(cell.source)
        elif cell.cell_type == "code":
            fold_imports(cell)
            fold_long(cell)
            caption(cell)
            for out in cell.outputs:
                if "text/markdown" not in out.get("data", {}):
                    continue
                blocks = re.split(
                    r"(^```.*?^```)",
                    out.data["text/markdown"],
                    flags=re.M | re.S,
                )  # in a signature nbdev's links would be read as they are written
                out.data["text/markdown"] = "".join(
                    plain(b) if b.startswith("```") else stay(b) for b in blocks
                )
    new = lambda text, which: nbformat.v4.new_markdown_cell(
        text, id=f"course-{which}"
    )
    docs = [
        cell
        for cell in page.cells
        if "show_doc(" in cell.source and cell.get("has_sd")
    ]
    page.cells = [cell for cell in page.cells if cell not in docs]
    fold_checked(page.cells)
    page.cells = (
        page.cells
        + ([new("## What this chapter exports", "exports")] if docs else [])
        + docs
    )
    if path.stem != "index":
        exercises = find_exercises(solved, path.stem)
        for e in exercises:
            show_exercise(page.cells, e)
        addressed(page.cells[0], path.stem[:2])
        page.cells.insert(1, new(bar(path.name, times, exercises), "bar"))
    else:
        addressed(page.cells[0])
    page.cells.append(new(made_line(solved, times), "made"))
    nbformat.write(page, path)


def learners(folder):
    "The learner's notebooks, as the pages offer them: with a first cell that installs what is missing."
    from discrete_diffusion.exercises import write_learner

    for path in notebooks():
        write_learner(path, folder, colab=archive())
