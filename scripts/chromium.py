"A Chromium for the tests, driven by Playwright: the one that CHROMIUM names, one that is installed, or on a Debian with root rights the one that apt brings."
import os, shutil, subprocess, sys
from contextlib import contextmanager
from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGES = ("chromium", "fonts-dejavu")             # without fonts there are boxes instead of letters, and nothing has its true width
QUIET = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps")


def root(): return hasattr(os, "geteuid") and os.geteuid() == 0


def apt_install():
    "Debian's browser. A source that cannot be read does no harm, as long as another one has the packages."
    apt = ["apt-get", "-q", "-y", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
    for words in (["update"], ["install", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run([*apt, *words], env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode: print("\n".join(done.stdout.splitlines()[-10:]), file=sys.stderr)


def find(playwright):
    "The path of a browser; one sentence and the end where there is none."
    if named := os.environ.get("CHROMIUM"):
        return shutil.which(named) or sys.exit(f"CHROMIUM={named} is no program that can be run.")
    look = lambda: next(filter(None, map(shutil.which, NAMES)), None) or (playwright.chromium.executable_path if os.path.exists(playwright.chromium.executable_path) else None)
    if found := look(): return found
    if root() and shutil.which("apt-get"):
        print("There is no browser here: apt installs Debian's Chromium.", flush=True)
        apt_install()
    return look() or sys.exit("There is no Chromium here: `apt install chromium` brings it on Debian, `python -m playwright install chromium` elsewhere; or name yours, as in CHROMIUM=/usr/bin/google-chrome.")


@contextmanager
def chromium():
    "A headless browser with a profile of its own, which is gone when it closes."
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=find(p), args=[*QUIET, *(["--no-sandbox"] if root() else [])])
        try: yield browser
        finally: browser.close()
