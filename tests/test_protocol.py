"""The table of chapter 18: its file fits the networks of today, its limits can be
broken, and a step that jumps at most once is not called tau-leaping."""

import itertools
import json
from pathlib import Path

import bench_protocol as protocol
import torch

from discrete_diffusion import ctmc, samplers, sedd
from discrete_diffusion.models import count_parameters

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "discrete_diffusion" / "results" / "protocol_p.json"


def runs():
    return json.loads(RESULTS.read_text())["runs"]


def test_recorded_sizes_are_those_of_todays_networks():
    tokens = torch.arange(65).repeat(3)
    for run in runs():
        if run["name"] == "flow":  # the network of score_uniform
            continue
        _, _, net = protocol.build(run["name"], 65, tokens, 0)
        assert count_parameters(net) == run["parameters"], run["name"]


def test_limits_hold_and_can_be_broken():
    assert protocol.beyond(runs()) == []
    for name, limit in protocol.LIMITS.items():
        run = next(
            r for r in runs() if r["name"] == name and r["steps"] == 2000
        )
        said = protocol.beyond([{**run, "bits": limit + 0.01}])
        assert len(said) == 1 and "bits" in said[0]
        assert protocol.beyond([{**run, "bits": float("nan")}])
        assert protocol.beyond([{**run, "parameters": 2_000_000}])


def test_every_diffusion_bound_says_at_most():
    source = json.loads((ROOT / "nbs" / "18_one_family.ipynb").read_text())
    cells = {c["id"]: "".join(c["source"]) for c in source["cells"]}
    names = {"itertools": itertools, "show": lambda *a: None}
    labels = ["next letter, this network", "masked diffusion, no time"]
    names["ordered"] = [
        {"label": n, "bits": 2.0 + i, "stderr_draws": i}
        for i, n in enumerate(labels)
    ]
    exec(cells["965f7141"], names)
    lines = [line for part in names["said"].values() for line in part]
    assert len(lines) == 9
    assert sum("at most" not in line for line in lines) == 2


def test_the_first_jump_has_its_own_name():
    assert "first_jump" in sedd.__all__
    for module in (ctmc, samplers, sedd):
        assert not any("tau" in name for name in vars(module))
