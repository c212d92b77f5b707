"""Tokens and texts in files: read as they are, or refused in one sentence."""

import numpy as np
import pytest
import torch

from discrete_diffusion.data import (
    ByteTokenizer,
    frequency_bits,
    load_digits,
    open_tokens,
    read_text,
    save_tokens,
    window_batch,
    windows,
)
from discrete_diffusion.training import TrainConfig, fit
from discrete_diffusion.transformer import (
    NextLetter,
    TextNet,
    letter_frequencies,
    train_text,
)

PIECES = [50_256, 7, 0, 40_000, 3, 7]


def raw_file(folder, name="train.bin", values=PIECES):
    path = folder / name
    np.array(values, dtype="<u2").tofile(path)
    return path


def refusal(call, *args, **options):
    "The one sentence with which a call is refused."
    with pytest.raises(ValueError) as caught:
        call(*args, **options)
    assert type(caught.value) is ValueError
    text = str(caught.value)
    assert "\n" not in text and "allow_pickle" not in text
    return text


def test_raw_files_of_two_bytes(tmp_path):
    tokens = open_tokens(raw_file(tmp_path))
    assert tokens.long().tolist() == PIECES
    assert windows(tokens, 2)[[0, 2]].long().tolist() == [
        [50_256, 7],
        [0, 40_000],
    ]
    generator = torch.Generator().manual_seed(0)
    drawn = window_batch(tokens, 3, 9, generator)
    assert drawn.dtype == torch.int64 and drawn.shape == (9, 3)
    frequencies = letter_frequencies(tokens, 50_257, 1.0).exp()
    assert frequencies.argmax() == 7
    tokens[0] = 1
    assert open_tokens(tmp_path / "train.bin")[0].item() == 50_256


def test_training_on_a_raw_file(tmp_path):
    values = [i % 3 for i in range(40)]
    results = []
    for tokens in (
        open_tokens(raw_file(tmp_path, values=values)),
        torch.tensor(values),
    ):
        torch.manual_seed(0)
        net = TextNet(3, 4, 8, 1, 1, causal=True)
        options = dict(batch_size=2, length=4, progress=False)
        train_text(net, NextLetter(3), tokens, 2, **options)
        results.append(net.head.weight.detach())
    assert torch.equal(*results) and results[0].any()


def test_what_is_no_raw_file(tmp_path):
    odd = tmp_path / "odd.bin"
    odd.write_bytes(b"abc")
    assert "odd.bin" in refusal(open_tokens, odd)
    odd.write_bytes(b"")
    assert "whole number of two-byte tokens" in refusal(open_tokens, odd)
    header = np.zeros(256, dtype="<i4")
    header[0] = 20240520
    header.tofile(odd)
    assert "llm.c" in refusal(open_tokens, odd)
    assert "No such file" in refusal(open_tokens, tmp_path / "none.bin")
    assert "directory" in refusal(open_tokens, tmp_path)
    text = tmp_path / "a.txt"
    text.write_text("to be")
    assert "a.txt" in refusal(open_tokens, text)


def test_archives_and_objects(tmp_path):
    path = tmp_path / "several.npz"
    np.savez(path, a=np.arange(3))
    said = refusal(open_tokens, path)
    assert "several.npz" in said and "archive" in said
    path = tmp_path / "objects.npy"
    np.save(path, np.array([None, 1]))
    assert "objects.npy" in refusal(open_tokens, path)
    path = save_tokens(torch.arange(9), tmp_path / "cut", 9)
    path.write_bytes(path.read_bytes()[:-2])
    assert "cut.npy" in refusal(open_tokens, path)
    path.write_bytes(path.read_bytes()[:8])
    assert "cut.npy" in refusal(open_tokens, path)


@pytest.mark.parametrize("dtype", ("u1", "<u2", ">u2", "<u4", "<u8", ">i4"))
def test_all_whole_numbers_of_npy(tmp_path, dtype):
    values = [1, 0, 250]
    np.save(tmp_path / "a.npy", np.array(values, dtype=dtype))
    tokens = open_tokens(tmp_path / "a.npy")
    assert tokens.long().tolist() == values
    assert windows(tokens, 2)[[1]].long().tolist() == [[0, 250]]


TEXT = "Être ou\nne pas être: ça va, naïveté. " * 9


@pytest.mark.parametrize("encoding", ("latin-1", "cp1252", "utf-16"))
def test_texts_in_other_encodings(tmp_path, encoding):
    path = tmp_path / "roman.txt"
    path.write_bytes(TEXT.encode(encoding))
    said = refusal(read_text, path)
    likely = "utf-16" if encoding == "utf-16" else "latin-1"
    assert "'roman.txt'" in said and f"encoding='{likely}'" in said
    assert read_text(path, encoding=likely) == TEXT


def test_utf16_without_its_mark(tmp_path):
    path = tmp_path / "roman.txt"
    path.write_bytes("to be, or not".encode("utf-16-le"))
    assert "encoding='utf-16-le'" in refusal(read_text, path)
    assert read_text(path, "utf-16-le") == "to be, or not"


def test_texts_in_utf8(tmp_path):
    path = tmp_path / "a.txt"
    for written in (TEXT, "\ufeff" + TEXT, TEXT.replace("\n", "\r\n")):
        path.write_bytes(written.encode())
        assert read_text(path) == TEXT
    path.write_bytes(b"abcde")
    assert "utf-16" in refusal(read_text, path, encoding="utf-16")
    assert "b.txt" in refusal(read_text, tmp_path / "b.txt")
    assert "file of text" in refusal(read_text, tmp_path)


def test_half_a_character():
    assert "half of one" in refusal(ByteTokenizer().encode, "a\ud800")


def test_numbers_of_numpy_are_numbers():
    digits = load_digits(levels=2)
    digits.held_x, digits.held_y = digits.held_x[:20], digits.held_y[:20]
    a, b = (frequency_bits(digits, c) for c in (np.float32(0.5), 0.5))
    assert torch.equal(a, b)
    with pytest.raises(ValueError, match="c: expected a finite number above 0"):
        frequency_bits(digits, 0)


def test_fit_on_windows_of_a_raw_file(tmp_path):
    tokens = open_tokens(raw_file(tmp_path, values=[0, 1] * 9))
    weight = torch.nn.Linear(4, 1)
    loss_fn = lambda net, x: net(x.float())[:, 0].square()  # noqa: E731
    config = TrainConfig(steps=2, batch_size=4)
    result = fit(weight, loss_fn, windows(tokens, 4), config, progress=False)
    assert len(result.loss) == 2
