"The runner: what it runs, in which order, and what it counts."

import threading
import time

import pytest

import test as runner


class Noted:
    "A report that runs nothing, and notes what ran when."

    def __init__(self):
        self.spans, self.lock = {}, threading.Lock()

    def run(self, name, test, *args, **more):
        begun = time.monotonic()
        time.sleep(0.05)
        with self.lock:
            assert name not in self.spans, f"{name} ran twice"
            self.spans[name] = (begun, time.monotonic())

    def overlap(self, one, two):
        (a, b), (c, d) = self.spans[one], self.spans[two]
        return a < d and c < b


def test_every_heavy_script_runs_once_and_quiet_ones_alone(root, tmp_path):
    long = tmp_path / "test_long.py"
    long.write_text("@pytest.mark." + "heavy")
    noted = Noted()
    runner.run_heavy(noted, [long])
    names = {f"heavy/{p.stem}" for p in (root / "scripts/heavy").glob("*.py")}
    assert noted.spans.keys() == names | {"tests/test_long, long"}
    alone = [f"heavy/{name}" for name in runner.QUIET + runner.SPREAD]
    for one in alone:
        others = noted.spans.keys() - {one}
        assert not any(noted.overlap(one, two) for two in others)
    assert not noted.overlap("heavy/pages", "heavy/reader")
    pairs = [(a, b) for a in names for b in names if a < b]
    if runner.processors() > 1:
        assert any(noted.overlap(*pair) for pair in pairs)


def test_every_test_of_a_file_counts(tmp_path):
    path = tmp_path / "test_five.py"
    path.write_text(
        "import pytest\n"
        "def test_a(): pass\n"
        "def test_b(): pass\n"
        "def test_c(): assert False\n"
        "@pytest.fixture\n"
        "def broken(): raise OSError\n"
        "def test_d(broken): pass\n"
        "@pytest.mark.skip\n"
        "def test_e(): pass\n"
    )
    counts = []
    assert runner.file_of_tests(path, counts) is not None
    assert sorted(counts) == [False, False, True, True]


@pytest.mark.parametrize(
    "text", ["import no_such_module\n", "import os\nos._exit(0)\n", ""]
)
def test_a_file_that_runs_no_test_is_red(tmp_path, text):
    path = tmp_path / "test_none.py"
    path.write_text(text)
    counts = []
    assert runner.file_of_tests(path, counts) is not None
    assert counts == [False]


def test_what_is_named_is_run():
    notebooks, files = runner.selected(["03_forward", "tests/test_runner.py"])
    assert [p.stem for p in notebooks] == ["03_forward"]
    assert [p.stem for p in files] == ["test_runner"]
    notebooks, files = runner.selected([])
    assert len(notebooks) > 20 and "test_runner" in [p.stem for p in files]
    with pytest.raises(SystemExit):
        runner.selected(["tests/test_nothing.py"])
