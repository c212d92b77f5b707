"""The site in _docs, from the notebooks as they are saved: with Quarto where it is installed, with smalldocs where it is not.

    build_site.py

Ends with a list of complaints, with file and cell, and leaves the last site as it was, where a notebook is not in the sidebar, a link or an anchor
leads nowhere, a picture is missing, a directive is unknown, an exercise has no check, a formula cannot be set, or a page would load anything from
another host.
"""

import logging
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote, urldefrag

from dress import cell_of, dress, faults, learners
from finish import drawn_sizes, finish
from house import ROOT, notebooks

MADE, SITE = ROOT / "_proc", ROOT / "_docs"
LOADS = {
    "link": "href",
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
}  # tags that make a browser fetch something


# Styles and icons that no page uses


# What Bootstrap's script puts on elements of a page; its other names are those of parts that no page has.
BOOTSTRAP = {
    "show",
    "showing",
    "hiding",
    "collapse",
    "collapsing",
    "collapsed",
    "fade",
    "active",
    "disabled",
}


def slim(folder):
    "Style sheets without rules whose classes, and variables whose names, stand nowhere, and the icons' font without the icons that are not shown."
    used = words_of(folder)
    sheets = {
        path: used_rules(path.read_text(encoding="utf-8"), used)
        for path in folder.glob("site_libs/**/*.css")
    }
    own = [p.read_text(encoding="utf-8") for p in folder.glob("*.css")]
    asked = used | asked_variables([*sheets.values(), *own])
    for path, text in sheets.items():
        path.write_text(used_variables(text, asked), encoding="utf-8")
    for path in folder.rglob("*.css"):
        change(path, squeezed)
    cut_icons(folder, icons_in(sheets.values()))


def words_of(folder):
    "Every word that could be the name of a class: of the pages, and of the scripts but the two that hold much else."
    others = ("search.js", "bootstrap.bundle.min.js")
    scripts = [p for p in folder.rglob("*.js") if p.name not in others]
    used = set(BOOTSTRAP)
    for path in [*folder.glob("*.html"), *scripts]:
        used.update(re.findall(r"[\w-]+", path.read_text(encoding="utf-8")))
    return used


def used_rules(css, used):
    "A style sheet with those of its rules that apply to the words used."
    import tinycss2

    rules = tinycss2.parse_stylesheet(css, skip_comments=True)
    return "\n".join(kept_rules(rules, used))


def kept_rules(rules, used):
    "The text of each rule that stays."
    import tinycss2

    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = used_selectors(tinycss2.serialize(rule.prelude), used)
            if selectors:
                content = tinycss2.serialize(rule.content).strip()
                yield f"{','.join(selectors)}{{{content}}}"
        elif rule.type != "at-rule":
            continue
        elif rule.at_keyword in ("media", "supports"):
            inside = tinycss2.parse_rule_list(rule.content)
            content = "".join(kept_rules(inside, used))
            if content:
                asks = tinycss2.serialize(rule.prelude).strip()
                yield f"@{rule.at_keyword} {asks}{{{content}}}"
        elif rule.at_keyword != "import":  # that is a font of another host
            yield rule.serialize()


def used_selectors(prelude, used):
    "Those of a rule's selectors all of whose classes are used."
    selectors = re.split(r",(?![^(]*\))", prelude)
    return [s.strip() for s in selectors if set(classes_in(s)) <= used]


def classes_in(selector):
    return re.findall(r"\.(-?[a-zA-Z_][\w-]*)", selector)


def asked_variables(sheets):
    "Names of the variables whose values these style sheets ask for."
    return {
        name
        for text in sheets
        for name in re.findall(r"var\(\s*(--[\w-]+)", text)
    }


def used_variables(css, asked):
    "A style sheet without the variables that nobody asks for."

    def kept(declaration):
        return declaration[0] if declaration[1] in asked else ""

    return re.sub(r"(?<=[{;])(--[\w-]+):[^;{}]*(;|(?=}))", kept, css)


def squeezed(css):
    "A style sheet without comments and indentation."
    bare = re.sub(r"/\*.*?\*/", "", css, flags=re.S)
    return re.sub(r"\s*\n\s*", "\n", bare).strip() + "\n"


def icons_in(sheets):
    "The letters that stand for icons: an icon is a letter of a font of its own."
    return {c for text in sheets for c in text if "\ue000" <= c <= "\uf8ff"}


def cut_icons(folder, shown):
    "Fonts of icons hold only these letters, and only as WOFF."
    from fontTools import subset

    logging.getLogger("fontTools").setLevel(logging.ERROR)
    for path in folder.glob("site_libs/**/*icons*.woff"):
        font = subset.load_font(path, subset.Options())
        cutter = subset.Subsetter()
        cutter.populate(text="".join(shown))
        cutter.subset(font)
        font.save(path)
        path.with_suffix(".woff2").unlink(missing_ok=True)
    for path in folder.glob("site_libs/*icons*/*.css"):
        change(path, without_woff2)


def without_woff2(css):
    return re.sub(r'url\([^)]*woff2[^)]*\) format\("woff2"\),', "", css)


def change(path, how):
    "Rewrite a file as this function of its text says."
    text = path.read_text(encoding="utf-8")
    path.write_text(how(text), encoding="utf-8")


# Pages and their complaints


def page_of(notebook):
    "The address of a notebook's page, the same from either renderer."
    return f"{notebook.removesuffix('.ipynb')}.html"


def absent(folder):
    return [
        f"{p.name}: it has no page"
        for p in notebooks()
        if not (folder / page_of(p.name)).exists()
    ]


def look_at(folder):
    "Complaints about the finished pages: what they load, and where their links lead."
    from bs4 import BeautifulSoup

    pages = {
        p.name: BeautifulSoup(p.read_text(encoding="utf-8"), "html.parser")
        for p in sorted(folder.glob("*.html"))
    }
    anchors = {
        name: {tag["id"] for tag in soup.select("[id]")}
        for name, soup in pages.items()
    }
    said = foreign_styles(folder)
    for name, soup in pages.items():
        for link, fault in [
            *faults_of_loads(folder, soup),
            *faults_of_links(folder, name, soup, anchors),
        ]:
            said.append(f"{where_from(name, link)}: {fault}")
    return list(dict.fromkeys(said))


def foreign_styles(folder):
    foreign = re.compile(r"(@import|url\()\s*[\"']?(https?:)?//")
    return [
        f"{p.name}: it loads from another host"
        for p in folder.rglob("*.css")
        if foreign.search(p.read_text(encoding="utf-8"))
    ]


def where_from(name, link):
    "The notebook and the cell from which a page has a link, as far as they can be told."
    own = {page_of(p.name): p.name for p in notebooks()}
    written = unquote(link).replace(".html", ".ipynb")
    return name + cell_of(own.get(name, ""), written)


def faults_of_loads(folder, soup):
    "(link, what is wrong with it) for what a page loads by itself."
    for link in loads_of(soup):
        if re.match(r"(https?:)?//", link):
            yield link, f"it loads {link} from another host"
        elif not link.startswith(("data:", "#")):
            file = unquote(urldefrag(link)[0].split("?")[0])
            if not (folder / file).exists():
                yield link, f"{link} is missing"


def loads_of(soup):
    for name, attribute in LOADS.items():
        for tag in soup.select(f"{name}[{attribute}]"):
            canonical = name == "link" and "canonical" in tag.get("rel", [])
            if not canonical:
                yield tag[attribute]


def faults_of_links(folder, name, soup, anchors):
    "(link, what is wrong with it) for what a reader can follow from the page `name`."
    for tag in soup.select("a[href]"):
        link = tag["href"]
        if re.match(r"[a-z]+:|//|#$", link) or not link:
            continue
        file, anchor = map(unquote, urldefrag(link))
        file = file.removeprefix("./") or name
        if not (folder / file).exists():
            yield link, f"the link {link} leads nowhere"
        elif anchor and file in anchors and anchor not in anchors[file]:
            yield link, f"the anchor of {link} is not on that page"


# The whole of it


def render():
    "Pages from _proc into _proc/_docs, by either renderer; returns complaints."
    if shutil.which("quarto"):
        command = ["quarto", "render", "--no-cache"]
        if subprocess.run(command, cwd=MADE).returncode:
            return ["Quarto renders no site: what it says stands above."]
        return []
    print(
        "There is no Quarto here, so smalldocs renders the pages.",
        flush=True,
    )
    smalldocs = str(Path(sys.executable).with_name("smalldocs"))
    command = [smalldocs, "render", str(MADE)]
    done = subprocess.run(command, capture_output=True, text=True)
    return [done.stdout + done.stderr] if done.returncode else []


def build():
    "Render everything into _proc/_docs; returns complaints."
    from nbdev.quarto import refresh_quarto_yml
    from nbdev.serve import proc_nbs

    os.chdir(ROOT)
    shutil.rmtree(MADE, ignore_errors=True)
    refresh_quarto_yml()
    proc_nbs()
    for path in sorted(MADE.glob("*.ipynb")):
        dress(path)
    failed = render()
    if failed:
        return failed
    folder = MADE / "_docs"
    said = finish(folder, drawn_sizes(MADE))
    if not shutil.which("quarto"):
        slim(folder)
    learners(folder / "notebooks")
    return said


def publish():
    "The new site takes the place of the last one."
    old = SITE.with_name("_docs.old")
    shutil.rmtree(old, ignore_errors=True)
    if SITE.exists():
        os.replace(SITE, old)
    os.replace(MADE / "_docs", SITE)
    shutil.rmtree(old, ignore_errors=True)


def main():
    start = time.time()
    said = (
        faults() or build() or absent(MADE / "_docs") + look_at(MADE / "_docs")
    )
    if said:
        sys.exit("\n".join(said))
    publish()
    pages = [SITE / page_of(p.name) for p in notebooks()]
    size, name = max((p.stat().st_size, p.name) for p in pages)
    print(
        f"{len(pages)} pages in _docs, the largest {name} with {size / 1e3:.0f} kB: {time.time() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
