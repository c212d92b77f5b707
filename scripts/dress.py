"""What a page has beyond its notebook: a bar below the title, folds around long outputs, a line at the end that says where its outputs come from.

Both renderers get it, because it is put into the processed notebooks before either sees them. Also what is wrong in the notebooks themselves,
with file and cell: links, pictures, directives, exercises, the sidebar.
"""

import ast
import html
import json
import re
from functools import lru_cache
from urllib.parse import quote, unquote, urldefrag

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
DIRECTIVES = {
    "default_exp",
    "export",
    "exports",
    "hide",
    "eval",
    "echo",
    "output",
    "slow",
    "cuda",
    "exercise",
    "check",
    "wrong",
    "code-fold",
    "code-summary",
    "fig-alt",
    "fig-cap",
}


def sidebar():
    "(section, notebook, text) of every page in the order of _quarto.yml; section and text may be None."
    text = (ROOT / "_quarto.yml").read_text(encoding="utf-8")
    contents = yaml.safe_load(text)["website"]["sidebar"]["contents"]
    return [page for item in contents for page in pages_of(item)]


def pages_of(item, section=None):
    "An item of the sidebar is a page, or a section with items of its own."
    if isinstance(item, str):
        yield section, item, None
        return
    if "href" in item:
        yield section, item["href"], item.get("text")
    for below in item.get("contents", []):
        yield from pages_of(below, item.get("section", section))


# What a notebook must not have


def faults():
    "Complaints about the notebooks, each with file and cell."
    there = {p.name: nbformat.read(p, as_version=4) for p in notebooks()}
    said = faults_of_sidebar(there)
    for name, nb in there.items():
        for i, cell in enumerate(nb.cells):
            said += [
                f"{name}, cell {i}: {fault}" for fault in faults_of_cell(cell)
            ]
        if name[0].isdigit():
            said += faults_of_chapter(name, nb)
    return said


def faults_of_sidebar(there):
    "Every notebook stands in the sidebar, under its number."
    listed = sidebar()
    missing = there.keys() - {name for _, name, _ in listed}
    said = [f"{n}: not in the sidebar of _quarto.yml" for n in sorted(missing)]
    for _, name, text in listed:
        if name not in there:
            said.append(
                f"_quarto.yml: the sidebar names {name}, which is not there"
            )
        elif name[0].isdigit() and not (text or "").startswith(name[:2] + " "):
            said.append(
                f"_quarto.yml: the sidebar calls {name} {text!r}, expected its number in front, as in '03 Forgetting'"
            )
    return said


def faults_of_chapter(name, nb):
    "Its exercises are whole, and it says how long it takes."
    from discrete_diffusion.exercises import find_exercises

    try:
        find_exercises(nb, name.removesuffix(".ipynb"))
    except ValueError as e:
        yield str(e)
    first = [c for c in nb.cells[:4] if c.cell_type == "markdown"]
    if not any(TIMES.search(c.source) for c in first):
        yield f"{name}: no line like 'Minutes to read: 20. Seconds to run on two cores: 4 (measured).' in its first cells"


def faults_of_cell(cell):
    "What is wrong in one cell, without a look at rendered pages."
    if cell.cell_type == "code":
        return faults_of_code(cell)
    return faults_of_text(cell.source)


def faults_of_code(cell):
    for name in re.findall(r"^#\|[ \t]*([^\s:]*)", cell.source, re.M):
        if name not in DIRECTIVES:
            yield f"an unknown directive, #| {name}"
    described = re.search(r"^#\|[ \t]*(fig-alt:|hide\b)", cell.source, re.M)
    if pictures_of(cell) and not described:
        yield 'a picture without words for those who do not see it: #| fig-alt: "..."'


def faults_of_text(text):
    for kind, place in places_named(text):
        file = unquote(urldefrag(place)[0])
        here = file and not re.match(r"[a-z]+:|//", place)
        if here and not (NBS / file).exists():
            yield f"the {kind} {place} leads nowhere"


def places_named(text):
    "('link' or 'picture', where it leads) for all that stand in a markdown cell."
    for token in tokens_of(text):
        if token.type == "link_open":
            yield "link", token.attrs["href"]
        elif token.type == "image":
            yield "picture", token.attrs["src"]
        elif token.type in ("html_block", "html_inline"):
            yield from places_in_html(token.content)


def tokens_of(text):
    for block in MarkdownIt().enable("table").parse(text):
        yield block
        yield from block.children or []


def places_in_html(text):
    attributes = r"""\b(src|href)\s*=\s*["']([^"']*)"""
    for name, value in re.findall(attributes, text):
        kind = "picture" if name == "src" else "link"
        yield kind, html.unescape(value)


def pictures_of(cell):
    return [
        out
        for out in cell.get("outputs", [])
        if "image/png" in out.get("data", {})
    ]


def cell_of(name, text):
    "Where in a notebook `text` stands first: ', cell 12', or nothing."
    if not (NBS / name).is_file():
        return ""
    nb = nbformat.read(NBS / name, as_version=4)
    for i, cell in enumerate(nb.cells):
        if text in cell.source:
            return f", cell {i}"
    return ""


# What a page has more


def colab_address(name):
    user, repo = settings()["git_url"].split("/")[-2:]
    return f"https://colab.research.google.com/github/{user}/{repo}/blob/colab/{name}"


def bar(name, times, exercises):
    "The line below the title: how long it takes, and how to work through it."
    facts = [f"{times[1]} min to read", f"{times[3]} s to run"] if times else []
    if exercises:
        facts.append(amount(exercises))
    shown = "".join(f"<span>{html.escape(fact)}</span>" for fact in facts)
    return (
        f'<div class="course-bar"><p>{shown}</p><p><a href="{colab_address(name)}">Open in Colab</a> '
        f'<a href="notebooks/{name}" download>Download the notebook</a></p></div>'
    )


def amount(exercises):
    "How many exercises there are, and how long those take that are no extra."
    core = [e for e in exercises if not e.extra]
    extra = len(exercises) - len(core)
    plural = "" if len(core) == 1 else "s"
    minutes = sum(e.minutes for e in core)
    more = f", and {extra} extra" if extra else ""
    return f"{len(core)} exercise{plural}, {minutes} min{more}"


def made_line(nb, times):
    "The line at the end: where the outputs come from."
    made = nb.metadata.get("course")
    if not made:
        return '<p class="course-made">When the outputs of this page were made is not recorded.</p>'
    return (
        f'<p class="course-made">The outputs of this page were made on {made["date"]} with Python {made["python"]}, torch {made["torch"]}, '
        f"numpy {made['numpy']} and matplotlib {made['matplotlib']}, on {made['machine']}.{how_long(times)}</p>"
    )


def talk_line(title):
    "Where to talk about a page, and where to say that something is wrong."
    address = settings()["git_url"]
    about = quote(f"{title}: ")
    return (
        f'<p class="course-talk"><a href="{address}/discussions/new?category=q-a&amp;title={about}">Discuss this chapter</a> '
        f'<a href="{address}/issues/new?title={about}">Report an issue</a></p>'
    )


def how_long(times):
    "The sentence about the seconds, with what a chapter says of how they were measured."
    if not times:
        return ""
    how = ", ".join(filter(None, [times[4], times[5].lstrip(", ")]))
    measured = f" ({how})" if how else ""
    return f" It took {times[3]} seconds{measured}."


def front_matter(cell):
    "What the first cell of a processed notebook says of its page."
    return yaml.safe_load(cell.source.strip().strip("-"))


def addressed(cell, number=None):
    """The front matter of a page, its title with the number of its notebook.

    nbdev wants Quarto to call the page of 03_forward forward.html, which
    smalldocs does not read: without that, both call it 03_forward.html.
    """
    about = front_matter(cell)
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
    alt = re.search(r"^#\|[ \t]*fig-alt:[ \t]*(.*)$", cell.source, re.M)
    if len(pictures_of(cell)) != 1 or not alt:
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
        text = printed(out)
        lines = text.rstrip("\n").split("\n")
        if len(lines) <= LONG_OUTPUT:
            continue
        first = next(filter(None, map(str.strip, lines)), "")[:60]
        page = (
            f"<details class='course-output'><summary>{len(lines)} lines of output: <code>{html.escape(first)}</code></summary>"
            f"<pre><code>{html.escape(text)}</code></pre></details>"
        )
        out.clear()
        out.update(
            output_type="display_data", metadata={}, data={"text/html": page}
        )


def printed(out):
    "The text of an output that is nothing but text."
    if out.output_type == "stream":
        return out.get("text", "")
    data = out.get("data", {})
    return data["text/plain"] if set(data) == {"text/plain"} else ""


def fold_imports(cell):
    "A page begins with its question: imports and set-up are in a fold."
    if "code-fold" in cell.source or cell.outputs:
        return
    source = re.sub(r"^#\|.*\n", "", cell.source, flags=re.M).strip()
    try:
        nodes = ast.parse(source).body
    except SyntaxError:  # a magic
        return
    if not nodes:
        return
    if all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in nodes):
        what = "Imports"
    elif len(nodes) <= 3 and re.search(
        r"seed_everything|set_num_threads", source
    ):
        what = "Set-up"
    else:
        return
    cell.source = (
        f'#| code-fold: true\n#| code-summary: "{what}"\n{cell.source}'
    )


def fold_checked(cells):
    "What stands below `## How this is checked` goes into one fold."
    from discrete_diffusion.exercises import checked_part

    inside = sorted(checked_part(cells))
    if not inside:
        return
    first, last = inside[0], inside[-1]
    heading, _, text = cells[first].source.partition("\n")
    title = "Tables counted out, random cases, refusals, and their power"
    opened = f'<details class="course-checked"><summary>{title}</summary>'
    cells[first : last + 1] = [
        added(heading, "checked-heading"),
        added(f"{opened}\n\n{text.strip()}", "checked-open"),
        *cells[first + 1 : last + 1],
        added("</details>", "checked-close"),
    ]


# Links


@lru_cache(None)
def own_pages():
    "Where nbdev believes our pages to be, and the notebook of each module."
    address = "{doc_host}{doc_baseurl}/".format_map(settings())
    return address, {p.stem.split("_", 1)[-1]: p.name for p in notebooks()}


def nearer(text):
    "nbdev's links to our own pages lead to their notebooks, and no link stands in the words of another."
    own, names = own_pages()

    def notebook(found):
        module, anchor = found.groups()
        return names[module] + ("" if anchor[0] == "_" else f"#{anchor}")

    link_with_links = r"\[([^\[\]]*(?:\[`[^`]*`\]\([^)]*\)[^\[\]]*)+)\]\("
    text = re.sub(link_with_links, lambda m: f"[{unlinked(m[1])}](", text)
    return re.sub(re.escape(own) + r"(\w+)\.html#(\w+)[\w.]*", notebook, text)


def unlinked(text):
    "Without the links on names of code."
    return re.sub(r"\[(`[^`]+`)\]\([^)]*\)", r"\1", text)


def nearer_but_in_code(text):
    "In a signature nbdev's links would be read as they are written."
    blocks = re.split(r"(^```.*?^```)", text, flags=re.M | re.S)
    return "".join(
        unlinked(b) if b.startswith("```") else nearer(b) for b in blocks
    )


# All of it


def dress(path):
    "A processed notebook of _proc, in place."
    solved = nbformat.read(NBS / path.name, as_version=4)
    page = nbformat.read(path, as_version=4)
    times = None
    for cell in page.cells:
        if cell.cell_type == "markdown":
            in_block(cell)
            times = times or take_times(cell)
            cell.source = nearer(cell.source)
        elif cell.cell_type == "code":
            dress_code(cell)
    page.cells = documentation_last(page.cells)
    fold_checked(page.cells)
    if path.stem == "index":
        addressed(page.cells[0])
    else:
        dress_chapter(page.cells, solved, path, times)
    last = made_line(solved, times) + talk_line(
        front_matter(page.cells[0])["title"]
    )
    page.cells.append(added(last, "made"))
    nbformat.write(page, path)


def added(text, name):
    "A cell that no notebook has."
    return nbformat.v4.new_markdown_cell(text, id=f"course-{name}")


def in_block(cell):
    "A comment on top names the look of a block."
    cell.source = re.sub(
        r"\A<!-- ([\w-]+) -->\n(.*)\Z",
        r"::: {.\1}\n\2\n:::",
        cell.source,
        flags=re.S,
    )


def take_times(cell):
    "The line of minutes and seconds, taken out of its cell: the bar and the last line tell them."
    times = TIMES.search(cell.source)
    if times:
        cell.source = TIMES.sub("", cell.source).rstrip()
    return times


def dress_code(cell):
    fold_imports(cell)
    fold_long(cell)
    caption(cell)
    for out in cell.outputs:
        data = out.get("data", {})
        if "text/markdown" in data:
            data["text/markdown"] = nearer_but_in_code(data["text/markdown"])


def documentation_last(cells):
    "nbdev's documentation stands at the end of the page, under a heading."
    docs = [c for c in cells if "show_doc(" in c.source and c.get("has_sd")]
    if not docs:
        return cells
    others = [c for c in cells if c not in docs]
    heading = added("## What this chapter exports", "exports")
    return [*others, heading, *docs]


def dress_chapter(cells, solved, path, times):
    "Boxes around the exercises, the number in the title, and the bar."
    from discrete_diffusion.exercises import find_exercises

    exercises = find_exercises(solved, path.stem)
    for exercise in exercises:
        show_exercise(cells, exercise)
    addressed(cells[0], path.stem[:2])
    cells.insert(1, added(bar(path.name, times, exercises), "bar"))


def learners(folder):
    "The learner's notebooks, as the pages offer them: with a first cell that installs what is missing."
    from discrete_diffusion.exercises import write_learner

    for path in notebooks():
        write_learner(path, folder, colab=archive())
