"""Chapter 24 with the real libraries `tokenizers` and `datasets`, where they are
installed (`pip install discrete-diffusion[hub]` brings them), without a network."""

import json

import pytest

from discrete_diffusion.data import load_text
from discrete_diffusion.scale import RunConfig, load_run, prepare, train

SMALL = dict(
    length=16, width=16, heads=2, depth=1, steps=3, batch_size=4, held=2
)


def byte_pairs(path):
    "A vocabulary of 300 symbols, learnt from the plays, as GPT-2's is made."
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    level = tokenizers.pre_tokenizers.ByteLevel
    made.pre_tokenizer = level(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=level.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([load_text("plays").train[:50_000]], trainer)
    made.save(str(path))
    return made


def test_a_byte_pair_file_of_the_library_trains_and_comes_back(tmp_path):
    made = byte_pairs(tmp_path / "pairs.json")
    text = load_text("plays").held[:20_000]
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    run = RunConfig(
        "masked",
        str(tmp_path / "run"),
        data=str(tmp_path / "text.txt"),
        tokenizer=f"hub:{tmp_path / 'pairs.json'}",
        **SMALL,
    )
    tokens, vocabulary = prepare(run)
    assert made.get_vocab_size() == vocabulary.K
    assert tokens.tolist()[:50] == made.encode(text).ids[:50]
    assert vocabulary.decode(tokens[:200].long()) in text
    sizes = [vocabulary.sizes[i] for i in tokens[:200].long()]
    said = vocabulary.decode(tokens[:200].long())
    assert sum(sizes) == len(said.encode())
    report = train(run, progress=False)
    assert 0 < report["bits_per_byte"] < report["bits_per_token"]
    _, _, again = load_run(tmp_path / "run")
    assert again.decode(tokens[:50].long()) == made.decode(
        made.encode(text).ids[:50]
    )


def test_rows_of_a_data_set_are_streamed(tmp_path):
    pytest.importorskip("datasets")
    rows = [{"text": f"document {i} of the set"} for i in range(200)]
    lines = "\n".join(map(json.dumps, rows))
    (tmp_path / "set").mkdir()
    (tmp_path / "set/train.jsonl").write_text(lines, encoding="utf-8")
    run = RunConfig(
        "next",
        str(tmp_path / "run"),
        data=f"hub:{tmp_path / 'set'}",
        tokenizer="bytes",
        limit=2000,
        **SMALL,
    )
    tokens, vocabulary = prepare(run)
    assert len(tokens) == 2000
    said = vocabulary.decode(tokens[:23].long())
    assert said.startswith("document 0 of the set")
