"""Make the trained weights that ship with the package, from the start, one network at a time.

    python scripts/pretrain.py digits                    chapter 10's masked D3PM: some minutes on one core
    python scripts/pretrain.py masked                    chapter 15's model, larger and longer, on tiny Shakespeare: some 75 minutes on one core
    python scripts/pretrain.py uniform                   the network of chapters 14 and 16, likewise
    python scripts/pretrain.py ar                        the next-letter baseline on the plays: three minutes on one core
    python scripts/pretrain.py digits --folder /some/where --seed 1 --steps 100

Each recipe trains, rounds the network to the half precision in which it is stored, measures the rounded network, and
hands it with its notes (data and their checksum, configuration, loss, seconds, machine and its load, numbers) to `save_pretrained`,
with the system and the tokenizer, which come back as objects.
What it printed stands beside the weights in NAME.log. The same seed, threads and versions give the same weights.
"""

import argparse
import hashlib
import sys
import time
from pathlib import Path

import torch
from house import machine, write_atomically

import discrete_diffusion
from discrete_diffusion.pretrained import load_pretrained, save_pretrained

LIMIT = 8_000_000  # bytes of all weights together
DEFAULT = Path(discrete_diffusion.__file__).parent / "weights"


# What every recipe does, and records.


def draws():
    "The generator of what is measured: the same draws for each network."
    return torch.Generator().manual_seed(0)


def checksum(*parts):
    "SHA-256 of texts, and of tensors with their shapes and types, one after another."
    h = hashlib.sha256()
    for p in parts:
        if isinstance(p, torch.Tensor):
            h.update(f"{p.dtype} {tuple(p.shape)}".encode())
            h.update(p.contiguous().numpy().tobytes())
        else:
            h.update(p.encode("utf-8"))
    return h.hexdigest()


def history(result, points=40):
    "The loss by step as at most `points` pairs: (last step, mean loss since the pair before)."
    n = max(1, -(-len(result.loss) // points))
    return [
        [i + len(part), round(sum(part) / len(part), 4)]
        for i in range(0, len(result.loss), n)
        if (part := result.loss[i : i + n])
    ]


@torch.no_grad()
def round_to_half(net):
    "The weights as they come back from the file, in place."
    for v in [*net.parameters(), *net.buffers()]:
        if v.is_floating_point():
            v.copy_(v.half())
    return net.eval()


# The recipes. Each returns what `save_pretrained` takes: the name, the network, its class, the class's arguments, the notes, the system, the tokenizer.


def digits(a, say):
    "Chapter 10's class-conditional D3PM with masks, trained and judged as there."
    from discrete_diffusion.d3pm import MaskedD3PM, digit_kernel, train_digits
    from discrete_diffusion.data import load_digits
    from discrete_diffusion.evaluation import (
        accuracy_by_class,
        diversity,
        interval,
        nearest,
        train_classifier,
    )
    from discrete_diffusion.models import count_parameters

    steps, data = a.steps or 880, load_digits(levels=4)
    say(data)
    system = MaskedD3PM(digit_kernel("absorbing"), T=1000, drop=0.03)
    net, run = train_digits(
        system,
        data.train_x,
        data.train_y,
        steps,
        seed=a.seed,
        progress=sys.stderr.isatty(),
        folder=a.checkpoints,
    )
    say(
        f"{steps} steps of 32 images, {run.seconds:.0f} s, {count_parameters(net):,} parameters"
    )
    for step, loss in history(run):
        say(f"  step {step}: loss {loss} nats per pixel")
    exact = system.bits(
        net, data.held_x, data.held_y, passes=2, generator=draws()
    )
    rounded = system.bits(
        round_to_half(net),
        data.held_x,
        data.held_y,
        passes=2,
        generator=draws(),
    )
    bits = system.bits(net, data.held_x, data.held_y, generator=draws())
    say(f"held out: {bits}")
    say(
        f"half precision costs {rounded.total - exact.total:+.6f} bits per dimension (same draws)"
    )
    asked = torch.arange(10).repeat_interleave(50)
    out = system.sample(net, asked, times=30, guidance=1.5, generator=draws())
    judge = train_classifier(data.train_x, data.train_y, 4)
    accuracy, per_class = accuracy_by_class(judge, out.x, asked)
    near, real_near = (
        nearest(x, data.train_x, 4)[0] for x in (out.x, data.held_x)
    )
    numbers = {
        "bits_per_dim": round(bits.total, 4),
        "stderr": round(bits.stderr_data, 4),
        "bound": f"T = {bits.T}, {bits.items} held-out images x {bits.passes} passes",
        "recognised": round(accuracy, 3),
        "worst_class": round(per_class.min().item(), 2),
        "judge_on_held_out": round(
            accuracy_by_class(judge, data.held_x, data.held_y)[0], 3
        ),
        "diversity": round(
            diversity(out.x, asked, 4) / diversity(data.held_x, data.held_y, 4),
            2,
        ),
        "too_near": round(
            (near < real_near.quantile(0.01)).double().mean().item(), 3
        ),
        "samples": "500, guidance 1.5, 30 steps, temperature 1",
        "half_precision_bits": round(rounded.total - exact.total, 6),
    }
    say(
        f"samples recognised {accuracy:.1%} (95 % interval {interval(round(accuracy * 500), 500)})"
    )
    arguments = {
        "K": 4,
        "N": 5,
        "shape": [28, 28],
        "classes": 10,
        "time": False,
    }
    notes = {
        "what": "digits in four grey levels by class: D3PM with masks (chapter 10)",
        "use": "system.sample(net, torch.arange(10), times=30, guidance=1.5)",
        "kernel": "Absorbing(4, linear_schedule()): alpha(t) = 1 - t, state 4 is the mask",
        "data": f"load_digits(levels=4): {data.source}, {len(data.train_x)} images to train on, {len(data.held_x)} held out",
        "data_sha256": checksum(data.train_x, data.train_y),
        "alphabet": None,
        "training": {
            "recipe": "train_digits",
            "steps": steps,
            "batch_size": 32,
            "drop": 0.03,
            "seed": a.seed,
            "optimisers": "digit_optimizers: Muon .025, AdamW .003",
            "seconds": round(run.seconds),
            "unit": "nats per pixel",
            "loss": history(run),
        },
        "numbers": numbers,
    }
    return "digits", net, "models.DigitNet", arguments, notes, system, None


def letter_by_letter(system, net, shape, generator):
    return system.sample(net, shape, generator=generator)


def a_step_a_letter(system, net, shape, generator):
    return system.sample(net, shape, shape[-1], generator=generator)


def text(a, say, name, what, use, build, source, defaults, sample=None):
    """A network for text. `build(K, tokens)` gives it, its system and a line about the noise; `defaults` are steps, windows a step, their length,
    and the length of the samples that are judged; `sample(system, net, shape, generator)` draws them (None: as the system does, one step a letter)."""
    from discrete_diffusion.data import CharTokenizer, load_text, windows
    from discrete_diffusion.evaluation import TextReport
    from discrete_diffusion.models import count_parameters
    from discrete_diffusion.training import read_tensors
    from discrete_diffusion.transformer import NextLetter, train_text

    steps, batch, length, long = defaults
    steps = a.steps or steps
    corpus = load_text(source, cache=a.cache, progress=sys.stderr.isatty())
    say(corpus)
    tokenizer = CharTokenizer(corpus.train + corpus.held)
    train, held = (
        tokenizer.encode(corpus.train),
        windows(tokenizer.encode(corpus.held), length, length),
    )
    torch.manual_seed(a.seed)
    net, system, kernel = build(tokenizer.K, train)
    if getattr(system, "reads", None) is not None:
        net.reads = system.reads  # goes into the notes
    if a.trained:
        net.load_state_dict(read_tensors(a.trained)[0])
        net.eval()
        losses, seconds = None, None
    else:
        run = train_text(
            net,
            system,
            train,
            steps,
            batch,
            length,
            a.seed,
            folder=a.checkpoints,
            progress=sys.stderr.isatty(),
        )
        losses, seconds = history(run), round(run.seconds)
        for step, loss in losses:
            say(f"  step {step}: loss {loss} nats per character")
    say(
        f"{steps} steps of {batch} windows of {length}, {count_parameters(net):,} parameters"
    )
    round_to_half(net)
    if isinstance(system, NextLetter):
        bits = system.bits(net, held)
        sample = letter_by_letter
    else:
        bits = system.bits(
            net, held[:: max(1, len(held) // 500)], passes=4, generator=draws()
        )
    out = (sample or a_step_a_letter)(system, net, (50, long), draws())
    samples = tokenizer.decode(out.x)
    report = TextReport(samples, corpus.train, corpus.held)
    say(f"held out: {bits}")
    say(f"{out.calls} network calls, {out.seconds:.0f} s")
    say(report)
    for line in samples[:3]:
        say("---\n" + line)
    numbers = {
        "bits_per_char": round(bits.total, 3),
        "stderr": round(bits.stderr_data, 3),
        "windows": bits.items,
        "samples": f"50 of {long} characters, temperature 1, {out.calls} network calls",
        **{k: round(v, 4) for k, v in report.ours.items()},
        "real_text": {k: round(v, 4) for k, v in report.real.items()},
    }
    notes = {
        "what": what,
        "use": use,
        "kernel": kernel,
        "data": f"{corpus}",
        "data_sha256": checksum(corpus.train),
        "alphabet": tokenizer.symbols,
        "training": {
            "recipe": "train_text",
            "steps": steps,
            "batch_size": batch,
            "length": length,
            "seed": a.seed,
            "optimisers": "text_optimizers: Muon .025, AdamW .004",
            "seconds": seconds,
            "unit": "nats per character",
            "loss": losses,
        },
        "numbers": numbers,
    }
    return (
        name,
        net,
        "transformer.TextNet",
        net.arguments,
        notes,
        system,
        tokenizer,
    )


def masked(a, say):
    "Chapter 15's masked diffusion on tiny Shakespeare, with more layers, longer windows and more steps."
    from discrete_diffusion.forward import Absorbing, linear_schedule
    from discrete_diffusion.mdlm import MaskedText, Remember
    from discrete_diffusion.samplers import remask, way_back
    from discrete_diffusion.sampling import sample as draw_along
    from discrete_diffusion.transformer import TextNet, letter_frequencies

    def build(K, tokens):
        net = TextNet(
            K,
            K + 1,
            width=144,
            heads=6,
            depth=6,
            frequencies=letter_frequencies(tokens, K),
        )
        system = MaskedText(Absorbing(K, linear_schedule()), ramp=0.5)
        noise = f"Absorbing({K}, linear_schedule()): alpha(t) = 1 - t, state {K} is the mask"
        return net, system, noise

    def sample(system, net, shape, generator):
        return draw_along(
            Remember(net, system.kernel.mask),
            system.kernel,
            shape,
            way_back(system.kernel, 768, remask(0.04, "cap")),
            generator=generator,
        )

    return text(
        a,
        say,
        "masked",
        "Shakespeare by characters: masked diffusion without time (chapter 15)",
        "sample(Remember(net, 65), system.kernel, (4, 256), way_back(system.kernel, 768, remask(0.04, 'cap')))",
        build,
        "tinyshakespeare",
        (7000, 8, 256, 256),
        sample,
    )


def uniform(a, say):
    "The network of chapters 14 and 16 on tiny Shakespeare, protocol P: the same posterior, read as a score or as a velocity."
    from discrete_diffusion.forward import Uniform, polynomial_schedule
    from discrete_diffusion.sedd import ScoreEntropy
    from discrete_diffusion.transformer import TextNet, letter_frequencies

    def build(K, tokens):
        frequencies = letter_frequencies(tokens, K)
        net = TextNet(K, K, time=True, frequencies=frequencies)
        system = ScoreEntropy(Uniform(K, polynomial_schedule(1.5)))
        noise = f"Uniform({K}, polynomial_schedule(1.5)): alpha(t) = 1 - t^1.5; the answer is the leave-one-out posterior"
        return net, system, noise

    def sample(system, net, shape, generator):
        return system.sample(net, shape, 64, corrections=3, generator=generator)

    return text(
        a,
        say,
        "uniform",
        "Shakespeare by characters: uniform noise, score entropy or flow matching (chapters 14 and 16)",
        "system.sample(net, (4, 64), 64, corrections=3)",
        build,
        "tinyshakespeare",
        (2000, 12, 64, 64),
        sample,
    )


def ar(a, say):
    "The next-letter baseline of chapters 14 to 16: their network, their plays, their number of steps."
    from discrete_diffusion.transformer import (
        NextLetter,
        TextNet,
        letter_frequencies,
    )

    def build(K, tokens):
        frequencies = letter_frequencies(tokens, K)
        net = TextNet(K, K + 1, causal=True, frequencies=frequencies)
        return net, NextLetter(K), "none: letter after letter"

    return text(
        a,
        say,
        "ar",
        "plays by characters: the next letter (chapter 13), the baseline of chapters 14 to 16",
        "system.sample(net, (4, 64))",
        build,
        "plays",
        (1000, 12, 64, 64),
    )


RECIPES = {f.__name__: f for f in (digits, masked, uniform, ar)}


if __name__ == "__main__":
    ask = argparse.ArgumentParser(
        description="Train a network and store it with its notes where `load_pretrained` finds it."
    )
    ask.add_argument("recipe", choices=RECIPES)
    ask.add_argument(
        "--folder",
        type=Path,
        default=DEFAULT,
        help="default: the package's own",
    )
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument(
        "--steps", type=int, help="updates (default: the recipe's own)"
    )
    ask.add_argument(
        "--cache", type=Path, help="folder with (or for) downloaded texts"
    )
    ask.add_argument(
        "--trained",
        type=Path,
        help="a file of `write_tensors` with the recipe's trained weights: they are judged and stored, nothing is trained",
    )
    ask.add_argument(
        "--checkpoints",
        type=Path,
        help="a folder: a run that was stopped goes on from there (its seconds are those of the last part)",
    )
    a = ask.parse_args()
    start, said = time.time(), []

    def say(line):
        said.append(str(line))
        print(line, flush=True)

    say(f"{a.recipe}, package {discrete_diffusion.__version__}; {machine()}")
    name, net, network, arguments, notes, system, tokenizer = RECIPES[a.recipe](
        a, say
    )
    notes["machine"], notes["made_by"] = (
        machine(),
        f"python scripts/pretrain.py {a.recipe} --seed {a.seed}"
        + (f" --steps {a.steps}" if a.steps else ""),
    )
    round_to_half(net)
    path = save_pretrained(
        name, net, network, arguments, notes, a.folder, system, tokenizer
    )
    back = load_pretrained(name, a.folder).net.state_dict()
    assert all(torch.equal(v, back[k]) for k, v in net.state_dict().items()), (
        "what was measured must be what was stored"
    )
    total = sum(p.stat().st_size for p in a.folder.glob("*.*"))
    say(
        f"{path.name}: {path.stat().st_size:,} bytes; all weights together {total:,} of {LIMIT:,}; {time.time() - start:.0f} s in all"
    )
    write_atomically(path.with_suffix(".log"), "\n".join(said) + "\n")
    if total > LIMIT:
        sys.exit(f"The weights must not exceed {LIMIT:,} bytes together.")
