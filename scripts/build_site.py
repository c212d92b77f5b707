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


# What Bootstrap's script puts on elements of a page; its other names are those of parts that no page has.
BOOTSTRAP = set(
    ["show", "showing", "hiding", "collapse", "collapsing", "collapsed", "fade", "active", "disabled"]
)


def squeezed(css):
    "A style sheet without comments and indentation."
    bare = re.sub(r"/\*.*?\*/", "", css, flags=re.S)
    return re.sub(r"\s*\n\s*", "\n", bare).strip() + "\n"


def slim(folder):
    "Style sheets without rules whose classes, and variables whose names, stand nowhere, and the icons' font without the icons that are not shown."
    import tinycss2
    from fontTools import subset

    logging.getLogger("fontTools").setLevel(logging.ERROR)
    text_or_parts = ("search.js", "bootstrap.bundle.min.js")
    scripts = [p for p in folder.rglob("*.js") if p.name not in text_or_parts]
    used = {
        w
        for p in [*folder.glob("*.html"), *scripts]
        for w in re.findall(r"[\w-]+", p.read_text(encoding="utf-8"))
    }
    used |= BOOTSTRAP
    needed = lambda selector: all(
        name in used for name in re.findall(r"\.(-?[a-zA-Z_][\w-]*)", selector)
    )

    def kept(rules):
        for rule in rules:
            if rule.type == "qualified-rule":
                selectors = [
                    x.strip()
                    for x in re.split(
                        r",(?![^(]*\))", tinycss2.serialize(rule.prelude)
                    )
                    if needed(x)
                ]
                if selectors:
                    yield f"{','.join(selectors)}{{{tinycss2.serialize(rule.content).strip()}}}"
            elif rule.type == "at-rule" and rule.at_keyword in (
                "media",
                "supports",
            ):
                inside = "".join(kept(tinycss2.parse_rule_list(rule.content)))
                if inside:
                    yield f"@{rule.at_keyword} {tinycss2.serialize(rule.prelude).strip()}{{{inside}}}"
            elif rule.type == "at-rule" and rule.at_keyword != "import":
                yield rule.serialize()  # an import is a font of another host

    sheets = {
        css: "\n".join(
            kept(
                tinycss2.parse_stylesheet(
                    css.read_text(encoding="utf-8"), skip_comments=True
                )
            )
        )
        for css in folder.glob("site_libs/**/*.css")
    }
    asked = used | {
        name
        for text in [
            *sheets.values(),
            *(p.read_text(encoding="utf-8") for p in folder.glob("*.css")),
        ]
        for name in re.findall(r"var\(\s*(--[\w-]+)", text)
    }
    for css, text in sheets.items():
        css.write_text(
            re.sub(
                r"(?<=[{;])(--[\w-]+):[^;{}]*(;|(?=}))",
                lambda m: m[0] if m[1] in asked else "",
                text,
            ),
            encoding="utf-8",
        )
    for css in folder.rglob("*.css"):
        css.write_text(
            squeezed(css.read_text(encoding="utf-8")), encoding="utf-8"
        )
    shown = {
        c for text in sheets.values() for c in text if "\ue000" <= c <= "\uf8ff"
    }  # an icon is a letter of a font of its own
    for font_file in folder.glob("site_libs/**/*icons*.woff"):
        font = subset.load_font(font_file, subset.Options())
        cutter = subset.Subsetter()
        cutter.populate(text="".join(shown))
        cutter.subset(font)
        font.save(font_file)
        font_file.with_suffix(".woff2").unlink(missing_ok=True)
    for css in folder.glob("site_libs/*icons*/*.css"):
        css.write_text(
            re.sub(
                r'url\([^)]*woff2[^)]*\) format\("woff2"\),',
                "",
                css.read_text(encoding="utf-8"),
            ),
            encoding="utf-8",
        )


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
        name: {t["id"] for t in soup.select("[id]")}
        for name, soup in pages.items()
    }
    own = {page_of(p.name): p.name for p in notebooks()}

    def at(name, link):
        "The notebook and the cell from which a page has a link, as far as they can be told."
        return f"{name}{cell_of(own.get(name, ''), unquote(link).replace('.html', '.ipynb'))}"

    said = [
        f"{p.name}: it loads from another host"
        for p in folder.rglob("*.css")
        if re.search(
            r"(@import|url\()\s*[\"']?(https?:)?//",
            p.read_text(encoding="utf-8"),
        )
    ]
    for name, soup in pages.items():
        for tag, attribute in LOADS.items():
            for t in soup.select(f"{tag}[{attribute}]"):
                link = t[attribute]
                if tag == "link" and "canonical" in t.get("rel", []):
                    continue
                if re.match(r"(https?:)?//", link):
                    said.append(
                        f"{at(name, link)}: it loads {link} from another host"
                    )
                elif (
                    not link.startswith(("data:", "#"))
                    and not (
                        folder / unquote(urldefrag(link)[0].split("?")[0])
                    ).exists()
                ):
                    said.append(f"{at(name, link)}: {link} is missing")
        for a in soup.select("a[href]"):
            link = a["href"]
            if re.match(r"[a-z]+:|//|#$", link) or not link:
                continue
            file, anchor = urldefrag(link)
            file = unquote(file).removeprefix("./") or name
            if not (folder / file).exists():
                said.append(f"{at(name, link)}: the link {link} leads nowhere")
            elif (
                anchor
                and file in anchors
                and unquote(anchor) not in anchors[file]
            ):
                said.append(
                    f"{at(name, link)}: the anchor of {link} is not on that page"
                )
    return list(dict.fromkeys(said))


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
    folder = MADE / "_docs"
    if shutil.which("quarto"):
        render = ["quarto", "render", "--no-cache"]
        if subprocess.run(render, cwd=MADE).returncode:
            return ["Quarto renders no site: what it says stands above."]
    else:
        print(
            "There is no Quarto here, so smalldocs renders the pages.",
            flush=True,
        )
        smalldocs = str(Path(sys.executable).with_name("smalldocs"))
        render = [smalldocs, "render", str(MADE)]
        done = subprocess.run(render, capture_output=True, text=True)
        if done.returncode:
            return [done.stdout + done.stderr]
    said = finish(folder, drawn_sizes(MADE))
    if not shutil.which("quarto"):
        slim(folder)
    learners(folder / "notebooks")
    return said


if __name__ == "__main__":
    start = time.time()
    said = (
        faults() or build() or absent(MADE / "_docs") + look_at(MADE / "_docs")
    )
    if said:
        sys.exit("\n".join(said))
    old = SITE.with_name("_docs.old")
    shutil.rmtree(old, ignore_errors=True)
    if SITE.exists():
        os.replace(SITE, old)
    os.replace(MADE / "_docs", SITE)
    shutil.rmtree(old, ignore_errors=True)
    size = lambda p: p.stat().st_size
    pages = sorted((SITE / page_of(p.name) for p in notebooks()), key=size)
    print(
        f"{len(pages)} pages in _docs, the largest {pages[-1].name} with {size(pages[-1]) / 1e3:.0f} kB: {time.time() - start:.0f} s"
    )
