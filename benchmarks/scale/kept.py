"What the scripts of this folder measure, kept where chapter 24 reads it."

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from house import machine, write_atomically  # noqa: E402


def keep(part, found):
    "This part of the file anew; the others stay."
    path = ROOT / "discrete_diffusion" / "results" / "scale.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[part] = {**found, "machine": machine()}
    write_atomically(path, json.dumps(kept, indent=1) + "\n")
