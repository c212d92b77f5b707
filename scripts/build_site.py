"""The site in _docs, from the notebooks as they are saved: with Quarto where it is installed, with smalldocs where it is not.

    build_site.py

Ends with a list of complaints, and leaves the last site as it was, where a notebook is not in the sidebar, a link or an anchor leads nowhere,
a picture is missing, a formula cannot be set, or a page would load anything from another host.
"""
import os, re, shutil, subprocess, sys, time
from pathlib import Path
from urllib.parse import unquote, urldefrag
from house import ROOT, notebooks

MADE, SITE = ROOT / "_proc", ROOT / "_docs"
LOADS = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}      # tags that make a browser fetch something


def not_in_sidebar():
    "Notebooks that _quarto.yml does not name, and names without a notebook."
    import yaml
    def hrefs(item):
        if isinstance(item, str): yield item
        elif isinstance(item, dict):
            if "href" in item: yield item["href"]
            for sub in item.get("contents", []): yield from hrefs(sub)
    listed = {h for item in yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["website"]["sidebar"]["contents"] for h in hrefs(item)}
    there = {p.name for p in notebooks()}
    return [f"{n}: not in the sidebar of _quarto.yml" for n in sorted(there - listed)] + [f"_quarto.yml: the sidebar names {n}, which is not there" for n in sorted(listed - there)]


def set_formulas(soup, page):
    "TeX in the page becomes MathML, which a browser shows without a script and without a network. Returns complaints."
    from bs4 import BeautifulSoup
    from latex2mathml.converter import convert
    said = []
    for span in soup.select("span.math"):
        tex = span.get_text(); block = tex.startswith("\\[")
        plain = re.sub(r"\\arg(?![a-zA-Z])", r"\\operatorname{arg}", tex[2:-2])        # the one command of the course that the converter lacks
        try: math = BeautifulSoup(convert(plain, display="block" if block else "inline"), "html.parser").math
        except Exception as e: said.append(f"{page}: the formula {tex!r} cannot be set: {type(e).__name__} {e}"); continue
        if unknown := re.findall(r"\\[a-zA-Z]+", math.get_text()): said.append(f"{page}: the formula {tex!r} has {', '.join(unknown)}, which cannot be set")
        math["alttext"] = tex[2:-2]
        for name in math.find_all("mi", string=re.compile(r"^[a-z]{2,}$")):         # log p, not logp
            last = name if name.parent.name == "mrow" or name.parent is math else name.parent
            if (following := last.find_next_sibling()) is not None and following.get_text() not in ("(", "⁡"): last.insert_after(soup.new_tag("mspace", width="0.17em"))
        span.clear(); span.append(math)
    for tag in soup.select("link[href*='katex'], script[src*='katex']"): tag.decompose()
    return said


def finish(folder):
    "Formulas and fonts of smalldocs' pages."
    from bs4 import BeautifulSoup
    said = []
    for css in folder.rglob("*.css"):
        text = css.read_text(encoding="utf-8"); own = re.sub(r"@import\s+(url\([^)]*\)|\"[^\"]*\"|'[^']*')[^;]*;", "", text)         # fonts of another host
        if own != text: css.write_text(own, encoding="utf-8")
    for path in sorted(folder.glob("*.html")):
        soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        said += set_formulas(soup, path.name)
        path.write_text(str(soup), encoding="utf-8")
    return said


def look_at(folder):
    "Complaints about the finished pages: what they load, and where their links lead."
    from bs4 import BeautifulSoup
    pages = {p.name: BeautifulSoup(p.read_text(encoding="utf-8"), "html.parser") for p in sorted(folder.glob("*.html"))}
    anchors = {name: {t["id"] for t in soup.select("[id]")} for name, soup in pages.items()}
    said = [f"{p.name}: it loads from another host" for p in folder.rglob("*.css") if re.search(r"(@import|url\()\s*[\"']?(https?:)?//", p.read_text(encoding="utf-8"))]
    for name, soup in pages.items():
        for tag, attribute in LOADS.items():
            for t in soup.select(f"{tag}[{attribute}]"):
                link = t[attribute]
                if tag == "link" and "canonical" in t.get("rel", []): continue
                if re.match(r"(https?:)?//", link): said.append(f"{name}: it loads {link} from another host")
                elif not link.startswith(("data:", "#")) and not (folder / unquote(urldefrag(link)[0].split("?")[0])).exists(): said.append(f"{name}: {link} is missing")
        for a in soup.select("a[href]"):
            link = a["href"]
            if re.match(r"[a-z]+:|//|#$", link) or not link: continue
            file, anchor = urldefrag(link); file = unquote(file).removeprefix("./") or name
            if not (folder / file).exists(): said.append(f"{name}: the link {link} leads nowhere")
            elif anchor and file in anchors and unquote(anchor) not in anchors[file]: said.append(f"{name}: the anchor of {link} is not on that page")
    return list(dict.fromkeys(said))


def build():
    "Render everything into _proc/_docs; returns complaints."
    from nbdev.quarto import refresh_quarto_yml
    from nbdev.serve import proc_nbs
    os.chdir(ROOT)
    shutil.rmtree(MADE, ignore_errors=True)
    refresh_quarto_yml(); proc_nbs()
    if shutil.which("quarto"):
        subprocess.run(["quarto", "render", "--no-cache"], cwd=MADE, check=True)
        return []
    print("There is no Quarto here, so smalldocs renders the pages.", flush=True)
    done = subprocess.run([str(Path(sys.executable).with_name("smalldocs")), "render", str(MADE)], capture_output=True, text=True)
    if done.returncode: return [done.stdout + done.stderr]
    return finish(MADE / "_docs")


if __name__ == "__main__":
    start = time.time()
    said = not_in_sidebar() or build() or look_at(MADE / "_docs")
    if said: sys.exit("\n".join(said))
    old = SITE.with_name("_docs.old")
    shutil.rmtree(old, ignore_errors=True)
    if SITE.exists(): os.replace(SITE, old)
    os.replace(MADE / "_docs", SITE)
    shutil.rmtree(old, ignore_errors=True)
    size = lambda p: p.stat().st_size
    pages = sorted(SITE.glob("*.html"), key=size)
    print(f"{len(pages)} pages in _docs, the largest {pages[-1].name} with {size(pages[-1]) / 1e3:.0f} kB: {time.time() - start:.0f} s")
