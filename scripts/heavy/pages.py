"The site builds, with a page for every notebook; and what it must complain about, it complains about."
import subprocess, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import build_site as site
from bs4 import BeautifulSoup
from house import notebooks

PAGE = "<html><head><script src='https://elsewhere.example/a.js'></script></head><body><h2 id='here'>x</h2><a href='#here'>good</a><a href='#gone'>a</a><a href='none.html'>b</a><img src='none.png'></body></html>"
SAYS = ["loads https://elsewhere.example/a.js from another host", "the anchor of #gone", "the link none.html leads nowhere", "none.png is missing"]


def is_red():
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "page.html").write_text(PAGE)
        said = site.look_at(Path(folder))
    assert len(said) == len(SAYS) and all(any(w in s for s in said) for w in SAYS), said
    soup = BeautifulSoup(r"<span class='math'>\(\frac{1}{2} \log p\)</span><span class='math'>\(\nosuchthing x\)</span>", "html.parser")
    said = site.set_formulas(soup, "page.html")
    assert len(said) == 1 and "nosuchthing" in said[0], said
    assert len(soup.select("math")) == 2 and soup.select("mfrac") and soup.select("mspace")


if __name__ == "__main__":
    start = time.time()
    is_red()
    said = subprocess.run([sys.executable, str(ROOT / "scripts" / "build_site.py")], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    pages = {p.stem for p in (ROOT / "_docs").glob("*.html")}
    assert {p.stem for p in notebooks()} <= pages, {p.stem for p in notebooks()} - pages
    formulas = sum(p.read_text(encoding="utf-8").count("<math") for p in (ROOT / "_docs").glob("*.html"))
    assert formulas > 2000, formulas
    print(f"{said.splitlines()[-1]}; {formulas:,} formulas; {time.time() - start:.0f} s")
