"""What a rendered page still lacks, whichever renderer made it.

Quarto and smalldocs write nearly the same HTML. Each step below takes what
either of them emits: formulas are TeX in `span.math` and become MathML,
scripts of other hosts go, wrapped lines of code hang under their first
column, pictures get the size at which they were drawn, every chapter is
found under the name of its module, and old addresses lead to the new ones.
"""

import base64
import hashlib
import json
import re
import unicodedata
from urllib.parse import unquote

from house import notebooks

SHORT = 36  # characters: a line of code that fits on a phone as it is
WIDGETS = re.compile(r"/(require|jquery)(\.min)?\.js")  # for Jupyter's widgets
MATHS = re.compile(r"mathjax|katex|polyfill", re.I)
SETS_UP = re.compile(r"\s*(define\(\s*['\"]jquery['\"]|window\.MathJax\s*=)")


# Formulas


def styled(text, variant):
    "The letters of a formula as Unicode's own bold, double-struck, ... ones."

    def one(c):
        name = re.sub(r"^(LATIN|GREEK) | LETTER", "", unicodedata.name(c, ""))
        kind = variant.replace("-", " ")
        kind = kind.replace("double struck", "double-struck").upper()
        for full in (
            f"MATHEMATICAL {kind} {name}",
            f"{variant.upper()} {name}",
        ):
            try:
                return unicodedata.lookup(full)
            except KeyError:
                continue
        return c

    return "".join(map(one, text))


def parts_of(tex):
    "The parts of a displayed formula that \\qquad separates: they may wrap."
    opens, closes = ("{", "\\begin", "\\left"), ("}", "\\end", "\\right")
    pieces = re.split(
        r"(\\qquad(?![a-zA-Z])|\\begin|\\end|\\left(?![a-zA-Z])"
        r"|\\right(?![a-zA-Z])|\\.|[{}])",
        tex,
    )
    parts, depth = [""], 0
    for piece in pieces:
        depth += (piece in opens) - (piece in closes)
        if piece == "\\qquad" and not depth:
            parts.append("")
        else:
            parts[-1] += piece
    return [p for p in parts if p.strip()]


def set_formula(part, block):
    "One piece of TeX as a MathML element."
    from bs4 import BeautifulSoup
    from latex2mathml.converter import convert

    # What the converter lacks
    plain = re.sub(r"\\arg(?![a-zA-Z])", r"\\operatorname{arg}", part)
    plain = plain.replace(r"\_", "_")
    plain = re.sub(r"\\([bB]igg?[lrm]?)\s*\\\|", r"\\\1‖", plain)
    made = convert(plain, display="block" if block else "inline")
    soup = BeautifulSoup(made, "html.parser")
    math = soup.math
    math["alttext"] = part.strip()
    # Browsers know no variant but "normal"; the letters of the others have
    # characters of their own.
    for tag in math.find_all(mathvariant=True):
        if tag["mathvariant"] != "normal":
            tag.string = styled(tag.get_text(), tag.attrs.pop("mathvariant"))
    # a log p, not alogp
    for name in math.find_all("mi", string=re.compile(r"^[a-z]{2,}$")):
        alone = name.parent.name == "mrow" or name.parent is math
        last = name if alone else name.parent
        before, after = last.find_previous_sibling(), last.find_next_sibling()
        if before is not None and _operand(before):
            last.insert_before(soup.new_tag("mspace", width="0.17em"))
        if after is not None and after.get_text() not in ("(", "\u2061"):
            last.insert_after(soup.new_tag("mspace", width="0.17em"))
    return math


def _operand(tag):
    "Is this something that a function's name must stand apart from?"
    if tag.name == "mo":
        return tag.get_text() in (")", "]", "}", "!")
    return tag.name != "mspace"


def set_formulas(soup, page):
    "TeX in a page becomes MathML, which needs no script. Returns complaints."
    said = []
    for span in soup.select("span.math"):
        tex = span.get_text()
        if not re.fullmatch(r"\\[(\[].*\\[)\]]", tex, re.S):
            said.append(f"{page}: a formula without its TeX: {tex!r}")
            continue
        block = tex.startswith("\\[")
        made = []
        for part in parts_of(tex[2:-2]) if block else [tex[2:-2]]:
            try:
                made.append(set_formula(part, block))
            except Exception as e:
                why = f"{type(e).__name__} {e}"
                said.append(f"{page}: the formula {tex!r} cannot be set: {why}")
                break
            left = re.findall(r"\\(?:[a-zA-Z]+|.)", made[-1].get_text())
            if left:
                names = ", ".join(left)
                said.append(
                    f"{page}: the formula {tex!r} has {names}, "
                    "which cannot be set"
                )
        else:
            span.clear()
            span.extend(made)
    return said


# Scripts


def drop_scripts(soup):
    """Scripts and styles of other hosts that no page needs.

    MathJax or KaTeX with what sets them up, since formulas are MathML, and
    require.js with jQuery, which Quarto adds to every page on which an
    output is HTML. The inline `define('jquery', ...)` below them goes too:
    without require.js it is an error.
    """
    for tag in soup.select("script[src], link[href]"):
        place = tag.get("src") or tag["href"]
        if not re.match(r"(https?:)?//", place):
            continue
        if MATHS.search(place) or WIDGETS.search(place):
            tag.decompose()
    for tag in soup.select("script:not([src])"):
        if SETS_UP.match(tag.get_text()):
            tag.decompose()


# Code


def split_lines(code):
    "The nodes of a block of code, line by line; None where a tag nests."
    from bs4 import NavigableString

    lines = [[]]
    for node in list(code.children):
        tag = None if isinstance(node, NavigableString) else node
        text = node if tag is None else tag.get_text()
        if tag is not None and "\n" not in text:
            lines[-1].append(tag)
            continue
        if tag is not None and tag.find(True):
            return None
        for i, part in enumerate(text.split("\n")):
            if i:
                lines.append([])
            if part:
                lines[-1].append(_like(tag, part))
    return lines


def _like(tag, text):
    "A text as it is, or in a tag like this one."
    from bs4 import NavigableString
    from bs4.element import Tag

    if tag is None:
        return NavigableString(text)
    made = Tag(name=tag.name, attrs=dict(tag.attrs))
    made.string = text
    return made


def hang_code(soup):
    """Each line of code tells how far it is indented.

    What wraps of a line then hangs below its own first column instead of
    starting at the edge, where Python's indentation would be lost. pandoc
    has a span around every line, smalldocs has none.
    """
    from bs4.element import Tag

    # A span for each operator, only to make it grey, is a third of what a
    # long page is made of: a slow machine waits for it.
    for operator in soup.select("pre > code.sourceCode span.op"):
        operator.unwrap()
    for code in soup.select("pre > code.sourceCode"):
        code.smooth()  # neighbouring pieces of text become one
        numbered = code.find_all("span", id=re.compile(r"^cb\d+-\d+$"))
        for line in numbered:
            _indent(line)
        if numbered:
            continue
        lines = split_lines(code)
        if lines is None:
            continue
        code.clear()
        for i, nodes in enumerate(lines):
            if i:
                code.append("\n")
            if sum(len(n.get_text()) for n in nodes) <= SHORT:
                code.extend(nodes)
                continue
            line = Tag(name="span")
            line.extend(nodes)
            _indent(line)
            code.append(line)


def _indent(line):
    text = line.get_text()
    indent = len(text) - len(text.lstrip(" "))
    line["class"] = [*line.get("class", []), "course-line"]
    # On a phone a first word that does not fit would leave its line empty.
    first = len((text.split() or [""])[0])
    if 0 < indent < SHORT < indent + first:
        line["class"].append("course-tight")
    if indent:
        line["style"] = f"--in:{indent}"


# Pictures


def drawn_sizes(folder):
    """The size at which each saved picture was drawn, by its bytes.

    A picture of double density has twice the dots; the notebook's output
    says how wide and high it is meant to be.
    """
    sizes = {}
    for path in folder.glob("*.ipynb"):
        nb = json.loads(path.read_text(encoding="utf-8"))
        for cell in nb["cells"]:
            for out in cell.get("outputs", []):
                size = out.get("metadata", {}).get("image/png")
                if not size or "image/png" not in out.get("data", {}):
                    continue
                data = "".join(out["data"]["image/png"])
                dots = base64.b64decode(data)
                key = hashlib.sha256(dots).hexdigest()
                sizes[key] = size.get("width"), size.get("height")
    return sizes


def size_pictures(soup, folder, sizes):
    "A picture that does not say its size is shown as large as it was drawn."
    for image in soup.select("img[src]"):
        if image.has_attr("width"):
            continue
        place = image["src"]
        if place.startswith("data:image/png;base64,"):
            dots = base64.b64decode(place.split(",", 1)[1])
        else:
            path = folder / unquote(place)
            dots = path.read_bytes() if path.is_file() else b""
        width, height = sizes.get(hashlib.sha256(dots).hexdigest(), (0, 0))
        if width and height:
            image["width"], image["height"] = round(width), round(height)


# Search and addresses


def find_by_name(entries):
    """The index of the search, in which a page has its module's name.

    "posterior" is the name of chapter 04 and stands in the text of twenty
    others; the entry of a page as a whole (the one without an anchor) is
    the one to come first.
    """
    names = {p.stem: p.stem.split("_", 1)[-1] for p in notebooks()}
    for entry in entries:
        page, _, anchor = entry["href"].partition("#")
        stem = page.removesuffix(".html")
        if not anchor and names.get(stem, stem) != stem:
            entry["section"] = names[stem]
    return entries


def make_searchable(folder):
    "The index with the modules' names, and once more as a script."
    index = folder / "search.json"
    if not index.exists():
        return
    entries = find_by_name(json.loads(index.read_text(encoding="utf-8")))
    text = json.dumps(entries, ensure_ascii=False)
    index.write_text(text, encoding="utf-8")
    # A browser lets no page fetch a file from disk, but it runs scripts.
    script = index.with_suffix(".js")
    script.write_text(f"window.courseSearch={text}", encoding="utf-8")


MOVED = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Moved</title>
<link rel="canonical" href="{0}"><meta name="robots" content="noindex">
<script>location.replace("{0}" + location.hash)</script>
<noscript><meta http-equiv="refresh" content="0; url={0}"></noscript>
</head><body><p>This page is now <a href="{0}">{0}</a>.</p></body></html>
"""


# Chapters that once had another number: page now, page then.
RENUMBERED = {
    "31_mistakes": "21_mistakes",
    "32_symptoms": "22_symptoms",
    "33_capstones": "23_capstones",
}


def keep_addresses(folder):
    """What a chapter was called once leads to what it is called now.

    03_forward.html was forward.html, and 31_mistakes.html was 21_mistakes.html.
    """
    for path in notebooks():
        new = f"{path.stem}.html"
        names = {path.stem.split("_", 1)[-1], RENUMBERED.get(path.stem)}
        for name in names - {path.stem, None}:
            if (folder / new).exists():
                old = folder / f"{name}.html"
                old.write_text(MOVED.format(new), encoding="utf-8")


# All of it


def finish(folder, sizes=None):
    "Every page of a folder of either renderer, in place; complaints."
    from bs4 import BeautifulSoup

    said = []
    for path in sorted(folder.glob("*.html")):
        soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        said += set_formulas(soup, path.name)
        drop_scripts(soup)
        hang_code(soup)
        size_pictures(soup, folder, sizes or {})
        path.write_text(str(soup), encoding="utf-8")
    make_searchable(folder)
    keep_addresses(folder)
    return said
