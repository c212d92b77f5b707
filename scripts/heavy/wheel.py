"An installed wheel carries the trained weights, the exercises' references and the table of results: built without a network, unpacked elsewhere, they load from there."

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOAD = """
import sys, discrete_diffusion
from discrete_diffusion.pretrained import load_pretrained, pretrained_names
assert discrete_diffusion.__file__.startswith(sys.argv[1]), discrete_diffusion.__file__
from pathlib import Path
from discrete_diffusion.exercises import references
here = Path(discrete_diffusion.__file__).parent
assert references() and (here / "results" / "protocol_p.json").is_file()
print(*(load_pretrained(n).name for n in pretrained_names()))
"""

if __name__ == "__main__":
    start, weights = time.time(), ROOT / "discrete_diffusion" / "weights"
    names = sorted(p.stem for p in weights.glob("*.safetensors"))
    with tempfile.TemporaryDirectory() as top:
        top = Path(top)
        (top / "src").mkdir()
        for n in (
            "setup.py",
            "settings.ini",
            "README.md",
            "LICENSE",
            "MANIFEST.in",
        ):
            shutil.copy(ROOT / n, top / "src")
        shutil.copytree(
            ROOT / "discrete_diffusion",
            top / "src" / "discrete_diffusion",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
        subprocess.run(
            [
                *pip,
                "wheel",
                "./src",
                "--no-build-isolation",
                "--no-deps",
                "--no-index",
                "-w",
                "out",
            ],
            cwd=top,
            check=True,
        )
        subprocess.run(
            [
                *pip,
                "install",
                "--no-deps",
                "--no-index",
                "--target",
                "site",
                *map(str, (top / "out").glob("*.whl")),
            ],
            cwd=top,
            check=True,
        )
        said = subprocess.run(
            [sys.executable, "-c", LOAD, str(top / "site")],
            cwd=top,
            check=True,
            capture_output=True,
            text=True,
            env=dict(os.environ, PYTHONPATH=str(top / "site")),
        ).stdout.split()
    assert names and said == names, (
        f"in the repository {names}, in the wheel {said}"
    )
    total = sum(p.stat().st_size for p in weights.glob("*.*"))
    assert total <= 8_000_000, total
    print(
        f"a wheel carries {', '.join(names)} ({total:,} bytes): {time.time() - start:.0f} s"
    )
