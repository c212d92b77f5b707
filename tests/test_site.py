"""The pages: what either renderer writes, and what is made of it.

`pages/quarto.html` is written by hand after what Quarto writes, with the
rules of its style sheets that the course's styles have to meet.
"""

import base64
import html
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import build_site
import dress
import finish
import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from house import notebooks
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGES = Path(__file__).with_name("pages")


def parsed(name):
    text = (PAGES / f"{name}.html").read_text(encoding="utf-8")
    return BeautifulSoup(text, "html.parser")


def png(width, height):
    made = io.BytesIO()
    Image.new("RGB", (width, height), "navy").save(made, "PNG")
    return made.getvalue()


# Configuration


def configuration(folder):
    "As Quarto reads it: the file of the folder, and one level of others."
    own = yaml.safe_load((folder / "_quarto.yml").read_text("utf-8"))
    for name in own.pop("metadata-files"):
        path = folder / name
        if path.exists():
            more = yaml.safe_load(path.read_text(encoding="utf-8"))
            for key, value in more.items():
                old = own.get(key)
                merge = isinstance(old, dict) and isinstance(value, dict)
                own[key] = {**old, **value} if merge else value
    return own


@pytest.mark.parametrize("where", ["nbs", "_proc"])
def test_one_configuration_for_both_folders(where, tmp_path):
    shutil.copy(ROOT / "_quarto.yml", tmp_path)
    folder = tmp_path / where
    folder.mkdir()
    shutil.copy(ROOT / "nbs" / "_quarto.yml", folder)
    (folder / "nbdev.yml").write_text("website: {title: A course}")
    got = configuration(folder)
    assert got["project"]["type"] == "website"
    assert got["website"]["title"] == "A course"
    assert got["website"]["sidebar"]["style"] == "docked"
    html = got["format"]["html"]
    assert html["theme"] == {
        "light": ["cosmo", "site.scss"],
        "dark": ["darkly", "site.scss"],
    }
    assert html["respect-user-color-scheme"] is True
    assert html["html-math-method"] == "mathjax"
    assert html["tbl-colwidths"] is False
    # Quarto reads the files that a file names, not those that these name
    top = yaml.safe_load((ROOT / "_quarto.yml").read_text("utf-8"))
    assert "metadata-files" not in top


def test_themes_import_no_font():
    text = (ROOT / "nbs" / "site.scss").read_text(encoding="utf-8")
    before, after = text.split("/*-- scss:defaults --*/")
    assert not before and "$web-font-path: false;" in after


def test_the_repository_has_no_links():
    "On Windows git writes a link as a text file with the place in it."
    listed = subprocess.run(
        ["git", "ls-files", "--stage"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a checkout")
    lines = listed.stdout.splitlines()
    assert not [x for x in lines if x.startswith("120000")]
    assert not (ROOT / "nbs" / "_quarto.yml").is_symlink()


# What is made of a page


@pytest.mark.parametrize("name", ["quarto", "smalldocs"])
def test_formulas_become_mathml(name):
    soup = parsed(name)
    tex = len(soup.select("span.math"))
    assert not finish.set_formulas(soup, name)
    assert len(soup.select("span.math")) == tex
    assert all(span.math for span in soup.select("span.math"))
    text = soup.main.get_text()
    assert "\\" not in text and "π" in text
    if name == "smalldocs":
        assert len(soup.select(".math.display > math")) == 2
    again = finish.set_formulas(parsed(name), name)
    assert not again


@pytest.mark.parametrize(
    ("tex", "spaces"),
    [
        (r"a(y)\,h \log b", 3),
        (r"(1 - a) \log (b)", 1),
        (r"-\log p", 1),
        (r"\log (p)", 0),
    ],
)
def test_the_name_of_a_function_stands_apart(tex, spaces):
    math = finish.set_formula(tex, False)
    assert len(math.find_all("mspace")) == spaces


def test_a_formula_without_tex_is_complained_of():
    "Nothing is cut from a span that some renderer filled itself."
    page = "<span class='math inline'><em>x</em> + 1</span>"
    soup = BeautifulSoup(page, "html.parser")
    said = finish.set_formulas(soup, "page.html")
    assert len(said) == 1 and "x + 1" in said[0]
    assert soup.get_text() == "x + 1"


@pytest.mark.parametrize("name", ["quarto", "smalldocs"])
def test_nothing_is_loaded_from_another_host(name):
    soup = parsed(name)
    finish.drop_scripts(soup)
    places = [
        t.get("src") or t.get("href")
        for t in soup.select("script[src], link[href]")
    ]
    assert "styles.css" in places
    assert not [p for p in places if "//" in p]
    text = "".join(t.get_text() for t in soup.select("script"))
    assert "define(" not in text
    if name == "quarto":
        assert "typesetMath" in text
    else:
        assert "site.js" in places


@pytest.mark.parametrize("name", ["quarto", "smalldocs"])
def test_code_keeps_its_text_and_tells_its_indentation(name):
    soup = parsed(name)
    before = [c.get_text() for c in soup.select("code.sourceCode")]
    finish.hang_code(soup)
    assert before == [c.get_text() for c in soup.select("code.sourceCode")]
    for line in soup.select(".course-line"):
        text = line.get_text()
        assert "\n" not in text
        indent = len(text) - len(text.lstrip(" "))
        assert line.get("style", "--in:0") == f"--in:{indent}"
    long = [
        line
        for text in before
        for line in text.split("\n")
        if len(line) > finish.SHORT
    ]
    hung = [line.get_text() for line in soup.select(".course-line")]
    assert long and set(long) <= set(hung)


def test_a_string_over_two_lines_keeps_its_colour():
    soup = parsed("smalldocs")
    finish.hang_code(soup)
    assert len(soup.select("code .course-line .st")) == 2


def test_pictures_have_the_size_at_which_they_were_drawn(tmp_path):
    dots = png(1200, 680)
    text = base64.b64encode(dots).decode()
    size = {"image/png": {"width": 600, "height": 340}}
    out = nbformat.v4.new_output(
        "display_data", {"image/png": text}, metadata=size
    )
    cell = nbformat.v4.new_code_cell("x", outputs=[out])
    nb = nbformat.v4.new_notebook(cells=[cell])
    nbformat.write(nb, tmp_path / "03_forward.ipynb")
    sizes = finish.drawn_sizes(tmp_path)
    (tmp_path / "a.png").write_bytes(dots)
    (tmp_path / "b.png").write_bytes(png(5, 5))
    page = (
        f"<img src='a.png'><img src='data:image/png;base64,{text}'>"
        "<img src='b.png'><img src='a.png' width='7'>"
    )
    soup = BeautifulSoup(page, "html.parser")
    finish.size_pictures(soup, tmp_path, sizes)
    widths = [image.get("width") for image in soup.select("img")]
    assert list(map(str, widths)) == ["600", "600", "None", "7"]
    assert str(soup.img["height"]) == "340"


def test_a_figure_is_saved_with_twice_the_dots():
    from house import environment
    from nbclient import NotebookClient

    source = (
        "import matplotlib.pyplot as plt\n"
        "from discrete_diffusion.viz import style\n"
        "style()\nplt.plot([1, 2]);"
    )
    cell = nbformat.v4.new_code_cell(source)
    nb = nbformat.v4.new_notebook(cells=[cell])
    env = environment(1)
    env["PYTHONPATH"] = str(ROOT)
    NotebookClient(nb, kernel_name="python3").execute(env=env)
    out = next(o for o in nb.cells[0].outputs if "data" in o)
    size = out.metadata["image/png"]
    dots = base64.b64decode(out.data["image/png"])
    image = Image.open(io.BytesIO(dots))
    assert image.width == pytest.approx(2 * size["width"], abs=1)
    assert 590 < size["width"] < 640


def test_a_saved_picture_has_few_colours_that_look_the_same():
    import run
    from PIL import ImageChops, ImageStat

    ramp = Image.linear_gradient("L").resize((300, 300)).convert("RGB")
    edges = Image.new("RGB", (300, 300), "white")
    edges.paste("navy", (0, 0, 100, 300))
    for image, most in ((ramp, 256), (edges, 32)):
        made = Image.open(io.BytesIO(run.few_colours(image)))
        assert len(made.getcolors()) <= most
        apart = ImageChops.difference(image, made.convert("RGB"))
        assert max(ImageStat.Stat(apart).rms) <= run.SAME


# Search and addresses


def test_a_chapter_is_found_by_the_name_of_its_module():
    entries = [
        dict(href="04_posterior.html", title="04", section="", text="x"),
        dict(href="04_posterior.html#a", title="04", section="A", text="x"),
        dict(href="index.html", title="Start", section="", text="posterior"),
    ]
    found = finish.find_by_name(entries)
    assert [e["section"] for e in found] == ["posterior", "A", ""]


def test_a_page_says_where_to_talk_about_it():
    links = re.findall(r'href="([^"]+)"', dress.talk_line("04 Where & when?"))
    discuss, report = [urlsplit(html.unescape(link)) for link in links]
    for link, place in ((discuss, "/discussions/new"), (report, "/issues/new")):
        assert link.netloc == "github.com" and link.path.endswith(place)
        assert parse_qs(link.query)["title"] == ["04 Where & when?: "]


def test_a_chapter_has_one_address(tmp_path):
    raw = nbformat.v4.new_raw_cell(
        "---\ntitle: Forgetting\noutput-file: forward.html\n---\n"
    )
    dress.addressed(raw, "03")
    assert yaml.safe_load(raw.source.strip().strip("-")) == {
        "title": "03 Forgetting"
    }
    assert build_site.page_of("03_forward.ipynb") == "03_forward.html"
    for path in notebooks():
        (tmp_path / f"{path.stem}.html").write_text("<p id='x'>x</p>")
    assert not build_site.absent(tmp_path)
    finish.keep_addresses(tmp_path)
    old = (tmp_path / "forward.html").read_text(encoding="utf-8")
    assert 'location.replace("03_forward.html" + location.hash)' in old
    assert '<a href="03_forward.html">' in old
    for now, once in finish.RENUMBERED.items():
        old = (tmp_path / f"{once}.html").read_text(encoding="utf-8")
        assert f'location.replace("{now}.html" + location.hash)' in old
    assert (tmp_path / "index.html").read_text() == "<p id='x'>x</p>"
    assert not build_site.look_at(tmp_path)


# Exercises, captions


def test_an_exercise_is_one_box():
    chapter = nbformat.read(ROOT / "nbs" / "03_forward.ipynb", as_version=4)
    exercise = dress_exercises(chapter)[0]
    cells = list(chapter.cells)
    dress.show_exercise(cells, exercise)
    task = next(c for c in cells if "Exercise 3.1:" in c.source)
    head, _, rest = task.source.partition("::::: {.course-exercise}")
    assert head.strip().startswith("### Exercise 3.1:")
    assert "★" in rest and "What you start from" in rest
    at = cells.index(task)
    ends = [i for i, c in enumerate(cells) if c.source == ":::::"]
    check = cells[ends[0] - 1]
    assert len(ends) == 1 and ends[0] > at
    assert check.source.startswith("#| code-fold: true")
    assert '@check_answer("3.1"' in check.source


def dress_exercises(chapter):
    from discrete_diffusion.exercises import find_exercises

    return find_exercises(chapter, "03_forward")


CAPTIONS = {
    '#| fig-alt: "Four: a, b. Left, alpha falls."\nplt.plot()': "Four: a, b.",
    '#| fig-alt: "One line at .5 of 1."\nplt.plot()': "One line at .5 of 1.",
    '#| fig-alt: "A."\n#| fig-cap: "Mine."\nplt.plot()': "Mine.",
    "plt.plot()": None,
}


@pytest.mark.parametrize("source", CAPTIONS)
def test_a_picture_has_a_caption(source):
    data = {"image/png": base64.b64encode(png(2, 2)).decode()}
    out = nbformat.v4.new_output("display_data", data)
    cell = nbformat.v4.new_code_cell(source, outputs=[out])
    dress.caption(cell)
    dress.caption(cell)
    found = re.findall(r"^#\| fig-cap: (.*)$", cell.source, re.M)
    want = CAPTIONS[source]
    assert list(map(json.loads, found)) == ([want] if want else [])


def test_the_first_picture_is_small_and_loads_nothing():
    path = ROOT / "nbs" / "front.svg"
    assert path.stat().st_size <= 600_000
    drawn = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    assert drawn.title.get_text()
    assert not drawn.select("script, image, foreignObject, [href], [src]")
    style = drawn.style.get_text()
    assert "url(" not in style and "@import" not in style
    assert "prefers-reduced-motion" in style
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "](nbs/front.svg)" in readme.split("\n## ")[0]


# In a browser


SIZES = {"desk": (1280, 900), "phone": (390, 844)}
BLUE = {"light": "rgb(0, 100, 156)", "dark": "rgb(130, 199, 242)"}

MEASURE = r"""() => {
  const style = (what, name) =>
    getComputedStyle(document.querySelector(what))[name];
  const lines = [...document.querySelectorAll('.course-line')].map(e => {
    const range = document.createRange();
    range.selectNodeContents(e);
    const boxes = [...range.getClientRects()].filter(r => r.width > 1);
    const top = Math.min(...boxes.map(r => r.top));
    const left = r => r.left - e.parentElement.getBoundingClientRect().left;
    const word = document.createTreeWalker(e, NodeFilter.SHOW_TEXT);
    let node = word.nextNode();
    while (node && !node.data.trim()) node = word.nextNode();
    const start = document.createRange();
    if (node) {
      const at = node.data.search(/\S/);
      start.setStart(node, at);
      start.setEnd(node, at + 1);
    }
    return {
      indent: e.textContent.search(/\S|$/),
      late: node ? start.getBoundingClientRect().top
        - e.getBoundingClientRect().top : 0,
      first: Math.min(...boxes.filter(r => r.top < top + 4).map(left)),
      rest: boxes.filter(r => r.top > top + 8).map(left)};
  });
  const text = document.querySelector('main section > p');
  return {
    wide: document.scrollingElement.scrollWidth,
    lines,
    toc: style('#TOC a.active', 'color'),
    active: style('.sidebar-link.active', 'color'),
    form: style('.aa-Form', 'backgroundColor'),
    typed: style('.aa-Input', 'color'),
    bar: style('nav.quarto-secondary-nav', 'backgroundColor'),
    page: style('body', 'backgroundColor'),
    codes: [...document.querySelectorAll('pre.sourceCode')]
      .filter(e => e.scrollWidth > e.clientWidth + 1).length,
    cell: style('td', 'backgroundColor'),
    comment: style('code span.co', 'color'),
    code: style('pre code', 'color'),
    measure: text.getBoundingClientRect().width
      / parseFloat(getComputedStyle(document.documentElement).fontSize),
    boxed: style('.course-exercise', 'backgroundColor'),
    head: style('h3', 'backgroundColor'),
    gap: document.querySelector('.course-exercise').getBoundingClientRect().top
      - document.querySelector('h3').getBoundingClientRect().bottom,
    picture: document.querySelector('img').getBoundingClientRect().width,
    shadows: style('.cell-output pre', 'backgroundImage')
      .split('gradient').length - 1,
    runs: document.querySelector('.cell-output pre').scrollWidth
      > document.querySelector('.cell-output pre').clientWidth,
  };
}"""


def measured(context, address):
    "What `MEASURE` finds on a page, and what the browser complains of."
    page, errors = context.new_page(), []

    def asked(request):
        if request.url.startswith("http"):
            errors.append(request.url)

    page.on("pageerror", lambda e: errors.append(str(e)))
    page.on("console", lambda m: errors.append(m.text))
    page.on("request", asked)
    page.goto(address)
    return page.evaluate(MEASURE), errors


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    "The page after Quarto's, finished, in a browser: what there is to see."
    from chromium import chromium

    folder = tmp_path_factory.mktemp("site")
    shutil.copy(PAGES / "quarto.html", folder / "03_forward.html")
    for name in ("styles.css", "site.js"):
        shutil.copy(ROOT / "nbs" / name, folder)
    dots = png(1200, 300)
    image = folder / "03_forward_files" / "figure-html"
    image.mkdir(parents=True)
    (image / "cell-4-output-1.png").write_bytes(dots)
    key = finish.hashlib.sha256(dots).hexdigest()
    assert not finish.finish(folder, {key: (600, 150)})
    address = (folder / "03_forward.html").as_uri()
    found = {}
    with chromium() as browser:
        for where, (width, height) in SIZES.items():
            for shade in BLUE:
                context = browser.new_context(
                    viewport=dict(width=width, height=height),
                    color_scheme=shade,
                )
                found[where, shade] = measured(context, address)
                context.close()
    return found


def test_no_error_and_no_sideways_scrolling(seen):
    for (where, _), (page, errors) in seen.items():
        assert not errors
        assert page["wide"] <= SIZES[where][0]
        assert not page["codes"]


def test_what_wraps_hangs_below_its_own_line(seen):
    for page, _ in seen.values():
        assert any(line["rest"] for line in page["lines"])
        for line in page["lines"]:
            if line["indent"] < finish.SHORT:
                assert all(x > line["first"] + 20 for x in line["rest"])
                assert line["late"] < 10


def test_one_blue_and_no_white_in_the_dark(seen):
    for (_, shade), (page, _) in seen.items():
        assert page["toc"] == page["active"] == BLUE[shade]
        assert page["form"] == page["bar"] == page["page"]
        assert page["typed"] != page["form"]
        assert page["cell"] == "rgba(0, 0, 0, 0)"  # the page's, and shadows


def test_comments_are_fainter_than_code(seen):
    for (_, shade), (page, _) in seen.items():
        rgb = [
            sum(map(int, re.findall(r"\d+", page[what])[:3]))
            for what in ("comment", "code")
        ]
        assert (rgb[0] < rgb[1]) == (shade == "dark")


def test_a_column_of_text_is_at_most_40rem(seen):
    for page, _ in seen.values():
        assert page["measure"] <= 40.01


def test_the_box_is_one(seen):
    for page, _ in seen.values():
        assert page["boxed"] == page["head"] != page["page"]
        assert abs(page["gap"]) < 1


def test_a_picture_is_as_large_as_it_was_drawn(seen):
    assert seen["desk", "light"][0]["picture"] == 600
    assert seen["phone", "light"][0]["picture"] <= 390


def test_long_output_shows_that_it_scrolls(seen):
    for page, _ in seen.values():
        assert page["runs"] and page["shadows"] == 4


def test_operators_have_no_element_of_their_own():
    code = (
        '<pre><code class="sourceCode">a<span class="op">=</span>b '
        '<span class="op">+</span> <span class="dv">1</span></code></pre>'
    )
    soup = BeautifulSoup(code, "html.parser")
    finish.hang_code(soup)
    assert not soup.select("span.op")
    assert soup.code.get_text() == "a=b + 1"
    assert soup.select_one("span.dv").get_text() == "1"
