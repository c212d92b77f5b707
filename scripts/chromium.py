"A Chromium for the tests, driven by Playwright: the one that CHROMIUM names, one that is installed, or on a Debian with root rights the one that apt brings."

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from playwright._impl._driver import compute_driver_executable
from playwright.sync_api import sync_playwright

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
BROWSER = (
    "chromium",
    "fonts-dejavu",
)  # without fonts there are boxes instead of letters, and nothing has its true width
DRIVER = (
    "libatomic1",
)  # what Playwright's driver needs and a small Debian lacks
QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
)


def root():
    return hasattr(os, "geteuid") and os.geteuid() == 0


def find():
    "The path of a browser: named, on the path, or downloaded by `playwright install`; None where there is none."
    if named := os.environ.get("CHROMIUM"):
        return shutil.which(named) or sys.exit(
            f"CHROMIUM={named} is no program that can be run."
        )
    own = Path(
        os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
        or Path.home() / ".cache" / "ms-playwright"
    ).glob("chromium-*/chrome-linux*/chrome")
    return next(filter(None, map(shutil.which, NAMES)), None) or next(
        map(str, own), None
    )


def drives():
    return not subprocess.run(
        [compute_driver_executable()[0], "--version"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ).returncode


def apt_install(packages):
    "A source that cannot be read does no harm, as long as another one has the packages."
    print(
        f"apt installs what the browser's tests lack here: {', '.join(packages)}",
        flush=True,
    )
    apt = [
        "apt-get",
        "-q",
        "-y",
        "-o",
        "Acquire::Retries=3",
        "-o",
        "DPkg::Lock::Timeout=300",
        "-o",
        "Dpkg::Use-Pty=0",
    ]
    for words in (
        ["update"],
        ["install", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(
            [*apt, *words],
            env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            print("\n".join(done.stdout.splitlines()[-5:]), file=sys.stderr)


def prepared():
    "The path of a browser that Playwright can drive; one sentence and the end where there is none."
    lacking = [*(() if find() else BROWSER), *(() if drives() else DRIVER)]
    if lacking and root() and shutil.which("apt-get"):
        apt_install(lacking)
    if not drives():
        sys.exit(
            "Playwright's driver does not start here: on Debian it needs `apt install libatomic1`."
        )
    return find() or sys.exit(
        "There is no Chromium here: `apt install chromium` brings it on Debian, `python -m playwright install chromium` elsewhere; or name yours, as in CHROMIUM=/usr/bin/google-chrome."
    )


@contextmanager
def chromium():
    "A headless browser with a profile of its own, which is gone when it closes."
    path = prepared()
    with sync_playwright() as p:
        browser = p.chromium.launch(
            executable_path=path,
            args=[*QUIET, *(["--no-sandbox"] if root() else [])],
        )
        try:
            yield browser
        finally:
            browser.close()
