"""The site as a reader has it: every page of _docs opened in a browser, looked at and used; and pages broken on purpose, which must be found.

    reader.py                     every page (builds the site where a source is newer)
    reader.py 03_forward index    these only
    reader.py --fits              no page error, no sideways scrolling, and no more (the test of a site before it is published, by whatever renderer)

A page: no message in the console, no failed request, nothing from another host; formulas are set, folds open by mouse and by keyboard, players play and are dragged,
code is copied, axe-core finds nothing against WCAG 2 A and AA in light and dark, nothing is wider than a phone. The site: search, links, the way from page to page, light
and dark, weights, and how soon a slow machine answers.
"""

import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urldefrag, urlsplit

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from axe_playwright_python.sync_playwright import Axe
from bounded import processors
from chromium import chromium, prepared
from house import NBS, find_chapter, notebooks
from playwright.sync_api import Error

DESK, PHONE = dict(width=1280, height=900), dict(width=390, height=844)
# Bytes: the first page without its pictures, and any page, both with all that they load.
FIRST, ANY = 300_000, 1_500_000
# Milliseconds for any one thing.
PATIENCE = 30_000 * float(os.environ.get("TEST_PATIENCE", 1))
# A processor four times slower answers within so many seconds.
SLOW, SOON = 4, 2.0
WCAG = dict(
    resultTypes=["violations"],
    preload=False,
    runOnly=["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
)
COLOURS = dict(
    WCAG,
    runOnly=dict(type="rule", values=["color-contrast", "link-in-text-block"]),
)
NOT_COLOURS = dict(
    WCAG, rules={n: dict(enabled=False) for n in COLOURS["runOnly"]["values"]}
)

# TeX that a reader would see as it was typed.
RAW = r"""() => {
  const set = 'pre, code, script, style, annotation, [data-player]';
  const tex =
    /\\[()[\]]|\$\$|\\[a-zA-Z]{2,}|\$[^$\s][^$\n]*[_^\\][^$\n]*\$/;
  const walk = document.createTreeWalker(
    document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  for (let node; node = walk.nextNode();) {
    if (node.parentElement.closest(set)) continue;
    const hit = node.data.match(tex);
    if (hit) found.push(
      node.data.slice(Math.max(0, hit.index - 20), hit.index + 40));
  }
  return found;
}"""
UNSET = """() => [...document.querySelectorAll('math')]
  .filter(math => {
    const box = math.getBoundingClientRect();
    return !(box.width > 1 && box.height > 1) || math.querySelector('merror');
  })
  .map(math => math.getAttribute('alttext') || math.textContent)"""
NO_PICTURE = """() => [...document.querySelectorAll('img')]
  .filter(i => !(i.complete && i.naturalWidth && i.alt.trim()))
  .map(i => i.outerHTML.slice(0, 120))"""
# What reaches over the right edge and cannot be scrolled to where it stands.
# Spaces hang over the end of a wrapped line, unseen.
WIDE = """() => {
  const wide = document.documentElement.clientWidth;
  const scrolls = e => {
    for (; e; e = e.parentElement) {
      const runs = /auto|scroll/.test(getComputedStyle(e).overflowX);
      if (runs && e !== document.body) return true;
    }
  };
  const spaces = e => {
    const pre = e.closest('pre');
    return pre && pre !== e && pre.scrollWidth <= pre.clientWidth + 1;
  };
  const out = [...document.querySelectorAll('body *')].filter(e => {
    if (spaces(e)) return false;
    const box = e.getBoundingClientRect(), style = getComputedStyle(e);
    return box.width && box.height && box.right > wide + 1
      && style.visibility === 'visible' && style.position !== 'fixed'
      && !scrolls(e);
  });
  const at = document.scrollingElement.scrollWidth;
  if (at <= wide && !out.length) return [];
  const shown = out.slice(0, 3).map(e => e.outerHTML.slice(0, 100));
  return [`${at} px wide on ${wide}`, ...shown];
}"""
PLAYER = """root => {
  const view = root.querySelector('[data-view]');
  const slider = root.querySelector('input');
  return [
    view.src || view.innerHTML,
    root.querySelector('[data-title]').textContent,
    +slider.value,
    slider.getAttribute('aria-valuetext'),
    root.querySelector('button').textContent,
    view.alt || ''];
}"""
PLAYED = """root => {
  const slider = root.querySelector('input');
  return +slider.value === +slider.max
    && root.querySelector('button').textContent === 'Play';
}"""


# One page


def formulas(page):
    raw = [f"TeX as it was typed: {t!r}" for t in page.evaluate(RAW)]
    return raw + [
        f"a formula without a size: {t}" for t in page.evaluate(UNSET)
    ]


def pictures(page):
    return [
        f"a picture that is not there, or without an alternative: {t}"
        for t in page.evaluate(NO_PICTURE)
    ]


def folds(page):
    "Every fold in sight opens by keyboard and closes by click; all stay open for what comes next. The others are for phones."
    said = []
    for fold in page.locator("details").all():
        summary = fold.locator("> summary")
        if summary.is_visible() and not opens_and_closes(page, fold, summary):
            said.append(
                f"a fold that does not open and close: {summary.inner_text()!r}"
            )
    return said


def opens_and_closes(page, fold, summary):
    fold.evaluate(
        "d => { d.open = false; d.querySelector('summary').focus(); }"
    )
    page.keyboard.press("Enter")
    opened = fold.evaluate("d => d.open")
    summary.click()
    stays = fold.evaluate(
        "d => { const open = d.open; d.open = true; return open; }"
    )
    return opened and not stays


class State(NamedTuple):
    "What a player shows."

    view: str
    title: str
    at: int
    label: str  # of its button


class Player:
    "One player in use: each step adds its complaints to `said`."

    def __init__(self, page, root):
        self.page, self.root, self.said = page, root, []
        self.slider = root.locator("input")
        self.button = root.locator("button")
        self.name = root.get_attribute("aria-label") or ""
        self.last = int(self.slider.get_attribute("max"))

    def expect(self, holds, complaint):
        if not holds:
            self.said.append(complaint)

    def state(self):
        view, title, at, spoken, label, alt = self.page.evaluate(
            PLAYER, self.root.element_handle()
        )
        self.expect(
            spoken == (title or str(at)),
            f"its slider says {spoken!r} at {title!r}",
        )
        self.expect(
            not alt or title in alt,
            f"its picture's alternative {alt!r} does not name the frame {title!r}",
        )
        return State(view, title, at, label)

    def press(self, key, where=None):
        (where or self.slider).press(key)
        return self.state()

    def waits_for(self, script, element, milliseconds):
        try:
            self.page.wait_for_function(
                script, arg=element.element_handle(), timeout=milliseconds
            )
        except Error:
            return False
        return True

    def has_a_name(self):
        self.expect(
            self.name
            and self.root.get_attribute("role") == "group"
            and self.slider.get_attribute("aria-label"),
            "it has no name for those who do not see it",
        )

    def hears_keys(self):
        "Returns the first and the last state."
        first = self.press("Home")
        one = self.press("ArrowRight")
        back = self.press("ArrowLeft")
        end = self.press("End")
        seen = [state.at for state in (first, one, back, end)]
        wanted = [0, 1, 0, self.last]
        self.expect(
            seen == wanted and back == first,
            f"keys move it to {seen}, expected {wanted}",
        )
        self.expect(end.view != first.view, "its picture stays")
        self.expect(end.title != first.title, "its caption stays")
        return end

    def is_dragged(self, end):
        box, mouse = self.slider.bounding_box(), self.page.mouse
        y = box["y"] + box["height"] / 2
        mouse.move(box["x"] + box["width"] - 8, y)
        mouse.down()
        for part in (0.8, 0.6, 0.5):
            mouse.move(box["x"] + box["width"] * part, y)
        half = self.state()
        mouse.up()
        moved = half.view != end.view and half.title != end.title
        self.expect(
            0 < half.at < self.last and moved,
            f"dragged to the middle it is at {half.at} of {self.last}",
        )

    def hears_space(self):
        "The space bar starts and stops it."
        self.press("Home")
        self.press("Space", self.root)
        self.page.wait_for_timeout(50)
        running = self.state()
        self.expect(
            self.waits_for("s => +s.value > 0", self.slider, 3000),
            "the space bar does not start it",
        )
        self.press("Space", self.root)
        stopped = self.state()
        self.page.wait_for_timeout(300)
        self.expect(
            running.label == "Pause"
            and stopped.label == "Play"
            and self.state() == stopped,
            "the space bar does not stop it",
        )

    def plays(self):
        "From the last picture but one to the end."
        self.press("End")
        self.press("ArrowLeft")
        self.button.click()
        self.expect(
            self.waits_for(PLAYED, self.root, 5000),
            "Play does not run to the end and stop",
        )


def player(page, root):
    "Keys, drag and Play of one player. Returns complaints."
    one = Player(page, root)
    one.has_a_name()
    root.scroll_into_view_if_needed()
    end = one.hears_keys()
    one.is_dragged(end)
    one.hears_space()
    one.plays()
    return [f"player {one.name[:60]!r}: {s}" for s in dict.fromkeys(one.said)]


def players(page):
    said = []
    for root in page.locator("[data-player]").all():
        try:
            said += player(page, root)
        except Error as e:
            said.append(
                f"a player that cannot be used: {str(e).splitlines()[0]}"
            )
    return said


def copies(page):
    "The last copy button of the page."
    button = page.locator(".code-copy-button").last
    if not button.count():
        return []
    button.scroll_into_view_if_needed()
    page.wait_for_timeout(200)  # a reader sees it before pressing it
    button.click()
    page.wait_for_timeout(100)
    got = page.evaluate("() => navigator.clipboard.readText()")
    code = button.locator("xpath=..").locator("pre code").inner_text()
    if got.strip() == code.strip():
        return []
    return [f"the copy button gives {got[:40]!r} for {code[:40]!r}"]


# Code whose kinds of words have all stood on the same ground before has no
# colour of its own: to measure each word takes two thirds of the time.
SAME = """() => {
  const seen = new Set();
  const ground = e => {
    const colour = getComputedStyle(e).backgroundColor;
    const clear = /^(transparent|rgba\\(.*, 0\\))$/.test(colour);
    return clear && e.parentElement ? ground(e.parentElement) : colour;
  };
  for (const part of document.querySelectorAll(
    'main pre > code > span, main pre:not(:has(code > span))')) {
    const words = [part, ...part.querySelectorAll('*')];
    const kinds = words.map(w => `${ground(part)} ${w.className} ${
      w.getAttribute('style')} ${w.parentElement.className}`);
    part.toggleAttribute('data-same', kinds.every(k => seen.has(k)));
    kinds.forEach(k => seen.add(k));
  }
}"""


def axe(page, where, options):
    "What axe-core finds, from the top of the page: what its head covers is no fault of the page."
    page.evaluate("() => scrollTo({top: 0, behavior: 'instant'})")
    said, context = [], None
    if options is COLOURS:
        page.evaluate(SAME)
        context = dict(exclude=[["[data-same]"]])
    run = Axe().run(page, context=context, options=options)
    for found in run.response["violations"]:
        nodes = found["nodes"]
        why = dict.fromkeys(
            node["failureSummary"].splitlines()[1].strip() for node in nodes
        )
        said.append(
            f"{where}, {found['id']} on {len(nodes)} ({' '.join(nodes[0]['target'])}): {'; '.join(list(why)[:3])}"
        )
    return said


# What of the text lies over the contents beside it.
COVERED = """() => {
  const margin = document.querySelector('#quarto-margin-sidebar');
  const side = margin && margin.getBoundingClientRect();
  if (!side || !side.width
    || getComputedStyle(margin).visibility !== 'visible') return [];
  const main = document.querySelector('main');
  const inside = e => {
    for (e = e.parentElement; e && e !== main.parentElement;
         e = e.parentElement) {
      const runs = getComputedStyle(e).overflowX;
      if (/auto|scroll|hidden|clip/.test(runs)) return true;
    }
  };
  return [...main.querySelectorAll('math, pre, table, img, code, svg')]
    .filter(e => {
      const box = e.getBoundingClientRect();
      return box.width && box.height && box.right > side.left + 1
        && box.left < side.right && !inside(e);
    })
    .slice(0, 3).map(e => e.outerHTML.slice(0, 100));
}"""


def covered(page, where):
    "Nothing of the text lies over the contents at its side."
    found = page.evaluate(COVERED)
    return [f"{where}, over the contents: {f}" for f in found]


def fits(page, dark):
    "At both widths, freshly loaded: no sideways scrolling, and no page error, which `listening` hears."
    said, shade = scheme(page, dark), ", dark" if dark else ""
    for where, size in (("on a desk", DESK), ("on a phone", PHONE)):
        page.set_viewport_size(size)
        page.reload(wait_until="load")
        said += wide(page, where + shade) + covered(page, where + shade)
    page.set_viewport_size(DESK)
    return said


def wide(page, where):
    found = page.evaluate(WIDE)
    return [f"{where}: {'; '.join(found)}"] if found else []


IS_DARK = r"""dark => {
  const colour = getComputedStyle(document.body).backgroundColor;
  const parts = (colour.match(/[\d.]+/g) || [255, 255, 255]).slice(0, 3);
  return (parts.reduce((a, b) => a + +b, 0) < 383) === dark;
}"""


def scheme(page, dark):
    "Light or dark, as the reader's system asks; complaints where the page does not follow."
    page.emulate_media(color_scheme="dark" if dark else "light")
    try:
        page.wait_for_function(IS_DARK, arg=dark, timeout=3000)
    except Error:
        return [f"the page stays {'light' if dark else 'dark'}"]
    page.wait_for_timeout(100)  # transitions of colours
    return []


@contextmanager
def listening(context, home):
    "A page of the context, with a list of what the browser complains of and a dict of what it loads."
    page, said, loads = context.new_page(), [], {}

    def message(m):
        if m.type in ("error", "warning"):
            said.append(f"console: {m.text[:200]}")

    def script_error(e):
        said.append(f"an error in a script: {str(e)[:200]}")

    def failed(r):
        said.append(f"a request that fails: {r.url[:200]} {r.failure or ''}")

    def answered(r):
        if r.status >= 400:
            said.append(f"status {r.status}: {r.url[:200]}")

    def asked(r):
        if r.url.startswith("data:"):
            return
        if not r.url.startswith(home):
            said.append(f"it loads from another host: {r.url[:200]}")
        loads[urldefrag(r.url)[0]] = True

    page.set_default_timeout(PATIENCE)
    page.on("console", message)
    page.on("pageerror", script_error)
    page.on("requestfailed", failed)
    page.on("response", answered)
    page.on("request", asked)
    try:
        yield page, said, loads
    finally:
        page.close()


def look_quickly(browser, home, name):
    "Does a page fit, and is nothing wrong while it loads? As `visit`, with nothing for the site's own tests."
    context = browser.new_context(
        viewport=DESK, color_scheme="light", reduced_motion="reduce"
    )
    try:
        with listening(context, home) as (page, said, _):
            page.goto(home + name, wait_until="load")
            said += fits(page, False) + fits(page, True)
    finally:
        context.close()
    return list(dict.fromkeys(said)), None


def visit(browser, home, name):
    "Everything that one page must do. Returns what is wrong and what the site's own tests need: ids, links, what it loads."
    context = browser.new_context(
        viewport=DESK,
        color_scheme="light",
        reduced_motion="reduce",
        permissions=["clipboard-read", "clipboard-write"],
    )
    try:
        with listening(context, home) as (page, said, loads):
            page.goto(home + name, wait_until="load")
            found = found_on(page, list(loads))
            for look in (folds, formulas, pictures, players, copies):
                said += look(page)
            said += at_both_sizes(page)
            said += fits(page, False) + fits(page, True)
    finally:
        context.close()
    return list(dict.fromkeys(said)), found


def found_on(page, loads):
    "What the site's own tests need of a page."
    ids = "() => [...document.querySelectorAll('[id]')].map(e => e.id)"
    hrefs = "() => [...document.querySelectorAll('a[href]')].map(a => a.href)"
    turn = "() => document.querySelector('.nav-page-{} a')?.href"
    return dict(
        ids=set(page.evaluate(ids)),
        links=page.evaluate(hrefs),
        turns={
            way: page.evaluate(turn.format(way)) for way in ("previous", "next")
        },
        loads=loads,
    )


def at_both_sizes(page):
    "Unfolded, light and dark: what axe-core finds, and what is too wide."
    desk, phone = "on a desk, unfolded", "on a phone, unfolded"
    said = scheme(page, False) + axe(page, "light", COLOURS)
    said += axe(page, "light", NOT_COLOURS)
    said += wide(page, desk) + covered(page, desk)
    said += scheme(page, True) + axe(page, "dark", COLOURS)
    page.set_viewport_size(PHONE)
    said += wide(page, "on a phone, dark, unfolded")
    said += scheme(page, False) + wide(page, phone)
    return said + axe(page, "on a phone", NOT_COLOURS)


# The site


def links(pages, home, files=()):
    "Links between pages, to other files, and anchors, as they stand in the browser; and the way from page to page."
    said = []
    for name, found in pages.items():
        for link in dict.fromkeys(found["links"]):
            if link.startswith(home):
                fault = fault_of_link(link.removeprefix(home), pages, files)
                said += [f"{name}: {fault}"] if fault else []
    return said + faults_of_way(pages, home)


def fault_of_link(link, pages, files):
    "What is wrong with a link within the site, or None."
    file, anchor = map(unquote, urldefrag(link))
    file = file or "index.html"
    if file in files:
        return None
    if file not in pages:
        return f"the link {link} leads to no page"
    if anchor and anchor not in pages[file]["ids"]:
        return f"the anchor of {link} is not there"
    return None


def faults_of_way(pages, home):
    "From the first page to the last and back, by all pages."

    def turn(name, way):
        return (pages[name]["turns"][way] or "").removeprefix(home)

    said, passed, at = [], [], "index.html"
    while at and at not in passed:
        passed.append(at)
        after = turn(at, "next")
        if after and turn(after, "previous") != at:
            said.append(f"{after}: previous does not lead back to {at}")
        at = after
    return said + [
        f"{name}: no way from page to page comes by"
        for name in pages
        if name not in passed
    ]


def by_quarto(folder):
    """Did Quarto render this site?

    Its styles and scripts weigh more than the whole first page may, and
    its own script is a module, which no browser loads from disk: those two
    promises are kept by smalldocs' pages, all others by both.
    """
    page = (folder / "index.html").read_text(encoding="utf-8")
    return bool(re.search(r"<meta [^>]*content=.quarto", page))


PNG = re.compile(rb"iVBORw0KGgo[\w+/=]+")  # as it begins in base64


def weights(pages, folder):
    "Bytes of each page with all that it loads, and the same without its pictures."
    said, sizes = [], {}
    for name, found in pages.items():
        sizes[name] = weight(folder, found["loads"])
        if sizes[name][0] > ANY:
            said.append(
                f"{name} weighs {sizes[name][0] / 1e3:.0f} kB with what it loads, {ANY / 1e3:.0f} are allowed"
            )
    first = sizes["index.html"][1]
    if first > FIRST and not by_quarto(folder):
        said.append(
            f"the first page weighs {first / 1e3:.0f} kB without pictures, {FIRST / 1e3:.0f} are allowed"
        )
    return said, sizes


def weight(folder, addresses):
    paths = {unquote(urlsplit(address).path) for address in addresses}
    whole = without = 0
    for file in {path.lstrip("/") or "index.html" for path in paths}:
        data = (folder / file).read_bytes()
        whole += len(data)
        if not file.endswith(("png", "jpg", "svg", "gif")):
            without += len(PNG.sub(b"", data))
    return whole, without


RESULTS = ".search-result, #quarto-search-results .search-result-link"


def results(page):
    "Where the results of a search lead, in their order."
    links = page.locator(RESULTS).evaluate_all(
        "found => found.map(a => a.href)"
    )
    return [unquote(urlsplit(a).path).rsplit("/", 1)[-1] for a in links]


def chapters():
    "The notebooks that a reader looks for by the name of their module."
    return [p for p in notebooks() if p.stem[0].isdigit() and p.stem[0] != "9"]


def search(page, home, paths=None):
    "The search box finds each chapter by the name of its module among the first three results, and the first leads to a page with the word."
    said = []
    for path in paths or chapters():
        word = path.stem.split("_", 1)[-1]
        page.goto(home + "index.html")
        box = page.locator("input[type=search]").first
        box.click()
        box.type(word)
        try:
            page.wait_for_selector(RESULTS, timeout=10_000)
        except Error:
            said.append(f"search finds no {word!r}")
            continue
        page.wait_for_timeout(300)
        if f"{path.stem}.html" not in (found := results(page))[:3]:
            said.append(
                f"{path.stem} is not among the first three results for {word!r}: {', '.join(found[:3])}"
            )
    with page.expect_navigation():
        box.press("Enter")
    if word not in page.locator("main").inner_text().lower():
        said.append(
            f"the first result of the search, {page.url}, does not hold {word!r}"
        )
    return said


def toggle(page, home):
    "Light becomes dark, and is so on the next page and after a reload."

    def shade():
        return page.evaluate(
            "() => getComputedStyle(document.body).backgroundColor"
        )

    page.goto(home + "index.html")
    light = shade()
    page.locator(".quarto-color-scheme-toggle").first.click()
    page.wait_for_timeout(100)
    seen = [shade()]
    page.locator(".nav-page-next a").click()
    page.wait_for_load_state()
    seen.append(shade())
    page.reload()
    seen.append(shade())
    page.locator(".quarto-color-scheme-toggle").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(100)
    back = shade()
    if len(set(seen)) == 1 and seen[0] != light and back == light:
        return []
    return [f"the switch between light and dark gives {light}, {seen}, {back}"]


IN_SIGHT = """e => {
  const box = e.getBoundingClientRect();
  return box.left >= 0 && box.right <= innerWidth
    && getComputedStyle(e).visibility === 'visible';
}"""
FOCUS_OUT_OF_SIGHT = """() => {
  const box = document.activeElement.getBoundingClientRect();
  return box.right <= 0 && box.width > 0;
}"""


def phone(page, home):
    "On a phone the list of chapters opens and leads on, and so do the page's own contents."
    page.set_viewport_size(PHONE)
    page.goto(home + "index.html")
    return opened_list(page) + closed_list(page) + contents(page)


def opened_list(page):
    "The list of chapters opens by keyboard, and its second leads on."
    chapter = page.locator("#quarto-sidebar a.sidebar-link[href]").nth(1)
    button = page.locator(".quarto-btn-toggle:visible")
    closed = chapter.evaluate(IN_SIGHT)
    button.focus()
    button.press("Enter")
    page.wait_for_timeout(400)
    opened = chapter.evaluate(IN_SIGHT)
    with page.expect_navigation():
        chapter.click()
    if opened and not closed:
        return []
    return [
        f"the list of chapters on a phone: shown {closed}, after a press {opened}"
    ]


def closed_list(page):
    "Where it is closed, the keyboard goes past it."
    page.keyboard.press("Tab")
    for _ in range(40):
        if page.evaluate(FOCUS_OUT_OF_SIGHT):
            return [
                "on a phone the keyboard goes through the closed list of chapters"
            ]
        page.keyboard.press("Tab")
    return []


def contents(page):
    fold = page.locator("details:has(a[href^='#']):has(> summary)").first
    if not fold.count():
        return ["on a phone a page has no contents"]
    fold.locator("> summary").click()
    fold.locator("a[href^='#']").last.click()
    page.wait_for_timeout(300)
    if page.evaluate("() => location.hash && scrollY > 100"):
        return []
    return ["the contents of a page lead nowhere on a phone"]


LONG_TASKS = """window.busy = 0;
new PerformanceObserver(list => list.getEntries().forEach(task => {
  busy = Math.max(busy, task.startTime + task.duration);
})).observe({type: 'longtask', buffered: true});"""


LOOP = "() => { let x = 1; for (let i = 0; i < 2e7; i++) x = (x * 1103515245 + 12345) % 2147483648; return x }"
USUAL = 0.26  # seconds of this loop on a machine with nothing else to do


def answers(browser, folder, name):
    """Seconds from the start of loading from disk to the end of the last task that would keep a reader waiting, on a slow processor: the best of three.

    Other work on this machine stretches the clock, but hardly the seconds that the page's own thread computes: where the clock says too long, those decide, times `SLOW`.
    A machine that is slow itself stretches both: a loop that is timed beside them says how much.
    """
    address = f"{folder.as_uri()}/{name}"
    clock = min(on_the_clock(browser, address) for _ in range(3))
    if clock <= SOON:
        return clock
    return SLOW * min(computed(browser, address) for _ in range(3))


def on_the_clock(browser, address):
    last = "() => Math.max(busy, performance.getEntriesByType('navigation')[0].loadEventEnd)"
    with measured(browser) as (page, devtools):
        devtools.send("Emulation.setCPUThrottlingRate", dict(rate=SLOW))
        page.goto(address)
        page.wait_for_timeout(1500)
        return page.evaluate(last) / 1000


def computed(browser, address):
    with measured(browser) as (page, devtools):
        devtools.send("Performance.enable", dict(timeDomain="threadTicks"))
        page.goto(address)
        page.wait_for_timeout(1500)
        own = of_its_thread(devtools)
        page.evaluate(LOOP)
        loop = of_its_thread(devtools) - own
        return own / max(1.0, loop / USUAL)


def of_its_thread(devtools):
    "Seconds that the page's thread has computed."
    told = devtools.send("Performance.getMetrics")["metrics"]
    return next(m["value"] for m in told if m["name"] == "TaskDuration")


@contextmanager
def measured(browser):
    "A page that notes its long tasks, and its developer tools."
    context = browser.new_context(viewport=DESK)
    try:
        page = context.new_page()
        devtools = context.new_cdp_session(page)
        page.set_default_timeout(PATIENCE)
        page.add_init_script(LONG_TASKS)
        yield page, devtools
    finally:
        context.close()


def from_disk(browser, folder, pages):
    "Opened as files: nothing is said, players and search work."
    home, said = f"{folder.as_uri()}/", []
    context = browser.new_context(viewport=DESK)
    try:
        for name in pages:
            with listening(context, home) as (page, complaints, _):
                page.goto(home + name)
                complaints += players(page)
                said += [f"{name}: {c}" for c in complaints]
        with listening(context, home) as (page, complaints, _):
            said += (
                search(page, home, [find_chapter("04_posterior")]) + complaints
            )
    finally:
        context.close()
    return [f"from disk: {s}" for s in said]


@contextmanager
def served(folder):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # two browsers ask for a dozen files at once

    server = Server(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def visit_all(home, names, tell=True, look=visit):
    "Each worker has a browser of its own and takes the next page."
    left, seen = queue.Queue(), {}
    for name in names:
        left.put(name)

    def work(_):
        with chromium() as browser:
            while True:
                try:
                    name = left.get_nowait()
                except queue.Empty:
                    return
                start = time.time()
                seen[name] = look_safely(look, browser, home, name)
                if tell:
                    print(
                        f"{name}: {len(seen[name][0])} complaints, {time.time() - start:.0f} s",
                        flush=True,
                    )

    workers = min(4, processors())
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))
    return {name: seen[name] for name in names}


def look_safely(look, browser, home, name):
    try:
        return look(browser, home, name)
    except Error as e:
        return [f"it cannot be looked at: {str(e).splitlines()[0]}"], None


# Pages broken on purpose

HEAD = "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>x</title><link rel='icon' href='data:,'><style>body{background:#fff}@media(prefers-color-scheme:dark){body{background:#111;color:#eee}}</style></head><body><main><h1>x</h1>"
DOT = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGD4DwABBAEAX+XDSwAAAABJRU5ErkJggg=="
CODE = "<pre><code><span>let <b>a</b></span> <span %s>be</span></code></pre>"
BROKEN = {  # what is wrong with a page, and a part of what must be said about it
    "overflow": (
        "<div style='width:600px'>x</div>",
        "on a phone: 608 px wide on 390",
    ),
    "overflow on a desk": (
        "<div style='width:1600px'>x</div>",
        "on a desk: 1608 px wide on 1280",
    ),
    "error on a phone": (
        "<script>if (innerWidth < 500) undefined.x</script>",
        "an error in a script",
    ),
    "over the contents": (
        "<div style='display:grid;grid-template-columns:300px 200px'><div><pre style='width:400px'>x</pre></div><div id='quarto-margin-sidebar'>contents</div></div>",
        "on a desk, over the contents: <pre",
    ),
    "cut off": (
        "<div style='overflow:hidden'><div style='width:600px'>x</div></div>",
        "on a phone: 390 px wide on 390; <div style",
    ),
    "no alternative": (f"<img src='{DOT}'>", "image-alt on 1"),
    "empty alternative": (
        f"<img src='{DOT}' alt=''>",
        "without an alternative",
    ),
    "console": ("<script>console.error('broken')</script>", "console: broken"),
    "script": ("<script>undefined.x</script>", "an error in a script"),
    "missing": ("<img src='none.png' alt='none'>", "status 404"),
    "another host": (
        "<img src='http://127.0.0.2:9/a.png' alt='none'>",
        "it loads from another host",
    ),
    "contrast": (
        "<p style='color:#999'>faint</p>",
        "light, color-contrast on 1",
    ),
    "dark contrast": (
        "<p style='color:#333;'>faint in the dark</p>",
        "dark, color-contrast on 1",
    ),
    "faint word of code": (
        f"<style>.fa {{color:#999}}</style>{CODE % ''}{CODE % 'class=fa'}",
        "light, color-contrast on 1",
    ),
    "faint code": (
        f"<div style='background:#555'>{CODE % ''}</div>{CODE % ''}",
        "light, color-contrast on 1",
    ),
    "TeX": (r"<p>where \(x_t\) is</p>", "TeX as it was typed"),
    "dollars": (r"<p>where $x_t$ is</p>", "TeX as it was typed"),
    "formula": ("<math alttext='x'></math>", "a formula without a size"),
    "fold": (
        "<details><summary onclick='event.preventDefault()'>Hint</summary>x</details>",
        "a fold that does not open",
    ),
    "copy": (
        "<div><pre><code>a = 1</code></pre><button class='code-copy-button'>copy</button></div>",
        "the copy button gives",
    ),
    "always light": (
        "<style>body{background:#fff !important;color:#000}</style>",
        "the page stays light",
    ),
    "nothing": ("<p>good, 3 $ and 4 $</p>", None),
}


BROKEN_PLAYERS = [  # a name, what is replaced in a good player, by what, and what must be said
    (
        "player without its script",
        "document.querySelectorAll(",
        "(x=>[])(",
        "its picture stays",
    ),
    (
        "player that stays",
        "view.textContent='';D.frames",
        "D.frames.slice(0,0)&&[[]];D.frames.slice(0,0)",
        "its picture stays",
    ),
    (
        "player without a caption",
        "title.textContent=D.titles[now]",
        "0",
        "its slider says",
    ),
    (
        "player that does not stop",
        "clearInterval(timer);",
        "",
        "does not stop",
    ),
    (
        "player without a name",
        'aria-label="Player: sixty words"',
        "",
        "it has no name",
    ),
    (
        "player without keys",
        "root.addEventListener('keydown'",
        "root.addEventListener('nokey'",
        "the space bar does not start it",
    ),
    (
        "player without a drag",
        "slider.addEventListener('input'",
        "slider.addEventListener('noinput'",
        "dragged to the middle",
    ),
]
BUSY = "<script>const end = performance.now() + 3000; while (performance.now() < end);</script>"


def is_red():
    "Every page broken on purpose is found; how many there are."
    cases = broken_pages()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for name, (body, _) in cases.items():
            write_page(folder / f"{name}.html", body)
        with served(folder) as home:
            seen = visit_all(home, [f"{n}.html" for n in cases], tell=False)
        slow_page_is_red(folder)
    for name, (_, says) in cases.items():
        said = seen[f"{name}.html"][0]
        found = any(says in s for s in said) if says else not said
        assert found, f"a page with {name}: expected {says!r}, heard {said}"
    links_are_red()
    return len(cases)


def broken_pages():
    from discrete_diffusion.viz import text_player

    words = [f"word {i}" for i in range(60)]
    times = [f"t = {i}" for i in range(60)]
    good = str(text_player(words, times, alt="sixty words", interval=50))
    cases = {**BROKEN, "player": (good, None)}
    for name, old, new, says in BROKEN_PLAYERS:
        assert good.count(old) == 1, (name, good.count(old))
        cases[name] = (good.replace(old, new), says)
    return cases


def write_page(path, body):
    path.write_text(HEAD + body + "</main></body></html>", encoding="utf-8")


def slow_page_is_red(folder):
    write_page(folder / "busy.html", BUSY)
    with chromium() as browser:
        t = answers(browser, folder, "busy.html")
    assert t > SOON, (
        f"a page that computes for three seconds answers after {t:.1f} s"
    )


def links_are_red():
    bare = dict(
        ids=set(), links=[], turns=dict(previous=None, next=None), loads=[]
    )
    first = dict(
        bare,
        links=["h/a.html#gone", "h/none.html"],
        turns=dict(previous=None, next="h/a.html"),
    )
    pages = {"index.html": first, "a.html": dict(bare), "b.html": dict(bare)}
    said = links(pages, "h/")
    wanted = [
        "the anchor of a.html#gone",
        "none.html leads to no page",
        "a.html: previous does not lead back",
        "b.html: no way",
    ]
    unheard = [w for w in wanted if not any(w in s for s in said)]
    assert not unheard and len(said) == len(wanted), said


# From the command line


def fresh(folder):
    "Whether the site was built after the last change of what it is made from."
    sources = [
        *NBS.iterdir(),
        ROOT / "settings.ini",
        ROOT / "_quarto.yml",
        *(ROOT / "scripts").glob("*.py"),
    ]
    first = folder / "index.html"
    changed = max(p.stat().st_mtime for p in sources)
    return first.exists() and first.stat().st_mtime > changed


def build():
    subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "build_site.py")],
        cwd=ROOT,
        check=True,
    )


def pages_of(folder, words):
    "The pages of these chapters, or all; the largest first."
    stems = [Path(w).stem for w in words] or [p.stem for p in notebooks()]
    names = [f"{stem}.html" for stem in stems]
    return sorted(names, key=lambda name: -(folder / name).stat().st_size)


def complaints_of(seen):
    return [
        f"{name}: {complaint}"
        for name, (complaints, _) in seen.items()
        for complaint in complaints
    ]


def whole_site(folder, home, names, pages):
    "What no page shows alone: complaints, sizes, and seconds until a slow machine has a page."
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*.ipynb")}
    heavy, sizes = weights(pages, folder)
    said = links(pages, home, files) + heavy
    with chromium() as browser:
        for look in (search, toggle, phone):
            said += tried_out(browser, home, look)
        if not by_quarto(folder):
            said += from_disk(browser, folder, some_of(folder, names))
        waits = {
            name: answers(browser, folder, name)
            for name in ("index.html", names[0])
        }
    said += [
        f"{name}: a slow machine waits {t:.1f} s for it, at most {SOON} are allowed"
        for name, t in waits.items()
        if t > SOON
    ]
    return said, sizes, waits


def tried_out(browser, home, look):
    "Complaints of one of the site's own tests."
    context = browser.new_context(viewport=DESK, color_scheme="light")
    with listening(context, home) as (page, complaints, _):
        try:
            said = look(page, home) + complaints
        except Error as e:
            said = [f"{look.__name__}: {str(e).splitlines()[0]}"]
    context.close()
    return said


def some_of(folder, names):
    "The first page, the largest, and the smallest with a player."
    with_players = [
        name
        for name in names
        if "data-player=" in (folder / name).read_text(encoding="utf-8")
    ]
    return list(dict.fromkeys(["index.html", names[0], with_players[-1]]))


def told_quickly(said, names, start):
    if said:
        sys.exit("\n".join(said))
    print(
        f"{len(names)} pages fit, on a desk and on a phone, in light and dark, without an error: {time.time() - start:.0f} s"
    )


def main(*words):
    start, folder = time.time(), ROOT / "_docs"
    quick = "--fits" in words
    words = [w for w in words if w != "--fits"]
    prepared()
    if not fresh(folder):
        build()
    broken = 0 if words or quick else is_red()
    names = pages_of(folder, words)
    with served(folder) as home:
        seen = visit_all(home, names, look=look_quickly if quick else visit)
        said = complaints_of(seen)
        pages = {name: found for name, (_, found) in seen.items() if found}
        if quick:
            return told_quickly(said, names, start)
        if words or len(pages) < len(names):
            print("\n".join(said))
            sys.exit(1 if said else 0)
        more, sizes, waits = whole_site(folder, home, names, pages)
    if said + more:
        sys.exit("\n".join(said + more))
    top = max(sizes, key=lambda n: sizes[n][0])
    print(
        f"{len(pages)} pages in a browser, nothing to complain of; {broken} broken ones found; the first page {sizes['index.html'][1] / 1e3:.0f} kB without pictures, the heaviest, {top}, {sizes[top][0] / 1e3:.0f} kB; "
        f"a slow machine has them after {' and '.join(f'{t:.1f}' for t in waits.values())} s: {time.time() - start:.0f} s"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
