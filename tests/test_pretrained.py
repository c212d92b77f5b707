"""Saved networks say what their answer means, and so do the shipped ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from discrete_diffusion.forward import (
    Absorbing,
    Schedule,
    Uniform,
    geometric_schedule,
    linear_schedule,
)
from discrete_diffusion.mdlm import MaskedText, TimedMaskedText
from discrete_diffusion.pretrained import (
    load_pretrained,
    pretrained_names,
    save_pretrained,
)
from discrete_diffusion.sedd import ScoreEntropy
from discrete_diffusion.transformer import NextLetter, TextNet

SHIPPED = {
    "ar": None,
    "digits": "full",
    "masked": "full",
    "uniform": "leave-one-out",
}


def small_net(**options):
    return TextNet(3, 3, 8, 1, 1, **options)


def save(folder, net, notes=None):
    kind = "transformer.TextNet"
    notes = {} if notes is None else notes
    return save_pretrained("small", net, kind, net.arguments, notes, folder)


def test_what_ships_says_what_it_answers():
    assert set(SHIPPED) <= set(pretrained_names())
    for name, reads in SHIPPED.items():
        loaded = load_pretrained(name)
        assert getattr(loaded.net, "reads", None) == reads, name
        assert loaded.notes.get("reads") == reads, name
        assert reads is None or f"reads: {reads}" in str(loaded)


def test_what_ships_is_ready_to_draw():
    for name in SHIPPED:
        shipped = load_pretrained(name)
        shape = (1, 8)
        if name == "digits":
            shape = torch.tensor([7])  # the class that is asked for
        else:
            assert shipped.tokenizer.symbols == shipped.notes["alphabet"]
        drawn = shipped.system.sample(shipped.net, shape).x
        assert drawn.min() >= 0 and drawn.max() < shipped.net.K


@pytest.mark.parametrize("reads", ("full", "leave-one-out", "score"))
def test_reads_come_back(tmp_path, reads):
    net = small_net()
    net.reads = reads
    save(tmp_path, net, {"what": "a test"})
    loaded = load_pretrained("small", tmp_path)
    assert loaded.net.reads == reads
    assert loaded.notes == {"what": "a test", "reads": reads}
    save(tmp_path, loaded.net, loaded.notes)
    assert load_pretrained("small", tmp_path).net.reads == reads


def test_a_network_that_says_nothing(tmp_path):
    save(tmp_path, small_net())
    assert not hasattr(load_pretrained("small", tmp_path).net, "reads")
    save(tmp_path, small_net(), {"reads": "score"})
    assert load_pretrained("small", tmp_path).net.reads == "score"


def test_other_words_are_refused(tmp_path):
    net = small_net()
    net.reads = "half"
    with pytest.raises(ValueError, match="reads: expected one of 'full'"):
        save(tmp_path, net)
    net.reads = "full"
    with pytest.raises(ValueError, match="the network's own reads, 'full'"):
        save(tmp_path, net, {"reads": "score"})
    assert not list(tmp_path.iterdir())


def test_all_systems_say_what_they_ask_for():
    uniform, masks = (
        kernel(3, linear_schedule()) for kernel in (Uniform, Absorbing)
    )
    scores = ScoreEntropy(Uniform(3, geometric_schedule()), head="score")
    assert ScoreEntropy(uniform).reads == "leave-one-out"
    assert scores.reads == "score"
    assert MaskedText(masks).reads == TimedMaskedText(masks).reads == "full"
    assert getattr(NextLetter(3), "reads", None) is None


def test_the_script_stores_it(tmp_path):
    script = Path(__file__).parent.parent / "scripts" / "pretrain.py"
    code = f"""
import sys, torch, types
sys.path.insert(0, {str(script.parent)!r})
sys.argv = ["pretrain.py"]
import pretrain
from discrete_diffusion.data import Corpus
import discrete_diffusion.data, discrete_diffusion.evaluation
text = "to be, or not to be. " * 40
discrete_diffusion.data.load_text = lambda *a, **k: Corpus(text, text, "a test")
a = types.SimpleNamespace(steps=1, seed=0, cache=None, trained=None,
                          checkpoints=None)
from discrete_diffusion.forward import Uniform, linear_schedule
from discrete_diffusion.sedd import ScoreEntropy
from discrete_diffusion.transformer import TextNet
build = lambda K, tokens: (TextNet(K, K, 8, 1, 1, time=True),
                           ScoreEntropy(Uniform(K, linear_schedule())), "none")
name, net, kind, arguments, notes, system, letters = pretrain.text(
    a, lambda line: None, "small", "a test", "", build, "plays", (1, 2, 8, 8))
from discrete_diffusion.pretrained import save_pretrained
save_pretrained(name, pretrain.round_to_half(net), kind, arguments, notes,
                {str(tmp_path)!r}, system, letters)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    listed = json.loads((tmp_path / "weights.json").read_text())
    assert listed["small"]["notes"]["reads"] == "leave-one-out"
    small = load_pretrained("small", tmp_path)
    assert (
        small.tokenizer.decode(torch.tensor([1])) == small.notes["alphabet"][1]
    )
    assert type(small.system) is ScoreEntropy
    net = small.net
    assert net.reads == "leave-one-out"
    assert all(v.dtype == torch.float32 for v in net.state_dict().values())


def test_a_folder_must_be_named():
    "Without one, weights would end up in the installed package."
    call = ("small", small_net(), "no network, so nothing is written", {}, {})
    with pytest.raises(TypeError, match="folder"):
        save_pretrained(*call)
    with pytest.raises(TypeError, match="folder: expected a path, got None"):
        save_pretrained(*call, None)


@pytest.mark.parametrize("part", ["system", "tokenizer"])
def test_parts_that_can_do_nothing_are_refused(tmp_path, part):
    net = small_net()
    rest = ("transformer.TextNet", net.arguments, {}, tmp_path)
    for wrong in ("abc", 3):
        with pytest.raises(TypeError, match=f"{part}: expected an object that"):
            save_pretrained("small", net, *rest, **{part: wrong})
    assert not list(tmp_path.iterdir())


def test_a_part_of_ones_own_is_named(tmp_path):
    net = small_net()
    mine = MaskedText(Absorbing(2, Schedule(lambda t: 1 - t, "mine")))
    with pytest.raises(ValueError, match="^system.kernel.alpha.fn: expected"):
        save_pretrained(
            "small",
            net,
            "transformer.TextNet",
            net.arguments,
            {},
            tmp_path,
            mine,
        )
