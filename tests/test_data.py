"""Files of tokens and texts, on disk and from a server: read as they are, or
refused in one sentence."""

import gzip
import hashlib
import http.server
import os
import threading

import numpy as np
import pooch
import pytest
import torch

from discrete_diffusion.data import (
    ByteTokenizer,
    fetch,
    frequency_bits,
    load_digits,
    load_text,
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

    def loss(net, x):
        return net(x.float())[:, 0].square()

    config = TrainConfig(steps=2, batch_size=4)
    result = fit(weight, loss, windows(tokens, 4), config, progress=False)
    assert len(result.loss) == 2


PUBLISHED = b"to be, or not to be " * 1000
SHA256 = hashlib.sha256(PUBLISHED).hexdigest()


class Pages(http.server.BaseHTTPRequestHandler):
    "A server with its accidents: what it does hangs on the address."

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/none.txt":
            return self.send_error(404)
        if self.path == "/moved.txt":
            self.send_response(302)
            self.send_header("Location", "/good.txt")
            return self.end_headers()
        body = PUBLISHED
        if self.path == "/login.txt":
            body = b"<html>Welcome to the airport</html>"
        if self.path == "/packed.gz":
            body = gzip.compress(PUBLISHED, mtime=0)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if self.path == "/packed.gz":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if self.path == "/cut.txt":
            body = body[:5000]
        self.wfile.write(body if self.path != "/silent.txt" else body[:100])
        if self.path == "/silent.txt":
            self.server.over.wait(20)

    def log_message(self, *args):
        pass


@pytest.fixture
def site(monkeypatch):
    "The address of a server on this machine, and what it was asked for."
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.asked, server.over = [], threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", server.asked
    server.over.set()
    server.shutdown()
    server.server_close()


def no_file(folder):
    "Nothing is left, not even half of it."
    return not list(folder.iterdir())


def test_fetched_once_and_mended(site, tmp_path, capsys, caplog):
    address, asked = site
    log = pooch.get_logger()
    level = log.level
    log.addHandler(caplog.handler)
    path = tmp_path / "deep" / "text.txt"
    for checksum in (SHA256, SHA256, SHA256.upper()):
        assert fetch(f"{address}/good.txt", path, checksum) == path
        assert path.read_bytes() == PUBLISHED
    assert asked == ["/good.txt"]
    heard = capsys.readouterr()
    assert "20.0k" in heard.err and heard.out == ""  # the bar, and no more
    for damaged in (PUBLISHED[:-1], PUBLISHED + b" ", b""):
        path.write_bytes(damaged)
        fetch(f"{address}/good.txt", path, SHA256.upper(), progress=False)
        assert path.read_bytes() == PUBLISHED
    heard = capsys.readouterr()
    assert heard.out == 3 * "text.txt is damaged: fetching it again\n"
    assert heard.err == "" and not caplog.records
    assert log.level == level
    log.removeHandler(caplog.handler)
    md5 = hashlib.md5(PUBLISHED).hexdigest()
    fetch(f"{address}/moved.txt", tmp_path / "b.txt", md5=md5, progress=False)
    assert [p.name for p in path.parent.iterdir()] == ["text.txt"]


@pytest.mark.parametrize(
    "page, kind, what",
    (
        ("cut.txt", ValueError, "was cut off on the way"),
        ("login.txt", ValueError, "sent something else"),
        ("none.txt", ConnectionError, "answers 404 Not Found"),
        ("silent.txt", ConnectionError, "was silent for 0.5 s"),
    ),
)
def test_a_server_that_fails(site, tmp_path, page, kind, what):
    address = f"{site[0]}/{page}"
    options = {"sha256": SHA256, "progress": False, "timeout": 0.5}
    with pytest.raises(kind) as caught:
        fetch(address, tmp_path / "text.txt", **options)
    said = str(caught.value)
    assert type(caught.value) is kind and "\n" not in said
    assert f"text.txt with sha256 {SHA256[:8]}" in said
    assert f"({address} {what})" in said
    assert no_file(tmp_path)
    fetch([address, f"{site[0]}/good.txt"], tmp_path / "text.txt", **options)
    assert (tmp_path / "text.txt").read_bytes() == PUBLISHED


def test_a_damaged_file_that_cannot_be_mended(site, tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(PUBLISHED[:7])
    with pytest.raises(ValueError, match="sent something else"):
        fetch(f"{site[0]}/login.txt", path, SHA256, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["text.txt"]


def test_a_packed_file_stays_packed(site, tmp_path):
    packed = gzip.compress(PUBLISHED, mtime=0)
    checksum = hashlib.md5(packed).hexdigest()
    path = tmp_path / "a.gz"
    fetch(f"{site[0]}/packed.gz", path, md5=checksum, progress=False)
    assert path.read_bytes() == packed


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_whoever_may_use_the_folder_may_read_the_file(site, tmp_path):
    for rights, expected in ((0o755, 0o644), (0o700, 0o600), (0o775, 0o664)):
        folder = tmp_path / oct(rights)
        folder.mkdir()
        folder.chmod(rights)
        path = fetch(
            f"{site[0]}/good.txt", folder / "a.txt", SHA256, progress=False
        )
        assert path.stat().st_mode & 0o777 == expected


def test_an_interrupted_download_leaves_nothing(site, tmp_path, monkeypatch):
    def interrupted(self, *args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("requests.Response.iter_content", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(f"{site[0]}/good.txt", tmp_path / "a.txt", SHA256)
    assert no_file(tmp_path)


@pytest.mark.parametrize(
    "load, instead",
    (
        (load_digits, "Without one, load_digits() has 5,000 images."),
        (load_text, "Without one, load_text() has 38 plays."),
    ),
)
def test_without_a_network(tmp_path, monkeypatch, load, instead):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    source = "mnist" if load is load_digits else "tinyshakespeare"
    with pytest.raises(ConnectionError) as caught:
        load(source=source, cache=tmp_path, progress=False)
    said = str(caught.value)
    assert said.endswith(f"is there a network? {instead}")
    assert "https://" in said and "\n" not in said
    assert "cannot be reached" in said
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
