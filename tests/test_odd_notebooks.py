"One odd file in the work folder is one sentence; the other notebooks are made."

import json

import nbformat
import pytest

from discrete_diffusion.exercises import write_learner

NAMES = ["93_notation", "95_references", "03_forward"]


@pytest.fixture
def work(root, tmp_path):
    folder = tmp_path / "work"
    for name in NAMES:
        write_learner(root / "nbs" / f"{name}.ipynb", folder)
    return folder


def spoil(path, change):
    nb = json.loads(path.read_text(encoding="utf-8"))
    change(nb)
    path.write_text(json.dumps(nb), encoding="utf-8")


def exercise(nb):
    return next(
        cell
        for cell in nb["cells"]
        if cell["metadata"]["course"]["key"].endswith(" exercise")
    )


def without_hash(nb):
    cell = exercise(nb)
    cell["source"] = "mine = 1"
    del cell["metadata"]["course"]["hash"]


def a_string(nb):
    cell = exercise(nb)
    cell["source"] = "mine = 1"
    cell["metadata"]["course"] = "a string"


def an_odd_key(nb):
    cell = exercise(nb)
    cell["source"] = "mine = 1"
    cell["metadata"]["course"] = {"key": ["a", "list"], "hash": 3}


def no_source(nb):
    del exercise(nb)["source"]


def source_is_a_number(nb):
    exercise(nb)["source"] = 3


def no_metadata(nb):
    del exercise(nb)["metadata"]


def no_outputs(nb):
    del exercise(nb)["outputs"]


def no_kind(nb):
    exercise(nb)["cell_type"] = "question"


def a_cell_is_a_string(nb):
    nb["cells"][4] = "a cell"


def no_cells(nb):
    del nb["cells"]


MERGED = [without_hash, a_string, an_odd_key]
LEFT = [
    no_source,
    source_is_a_number,
    no_metadata,
    no_outputs,
    no_kind,
    a_cell_is_a_string,
    no_cells,
]


@pytest.mark.parametrize("change", MERGED)
def test_an_odd_note_is_the_learners_cell(root, work, change):
    "What the learner wrote is kept, and the notebook is whole."
    path = work / "03_forward.ipynb"
    spoil(path, change)
    write_learner(root / "nbs" / path.name, work)
    made = nbformat.read(path, as_version=4)
    nbformat.validate(made)
    assert sum(cell.source == "mine = 1" for cell in made.cells) == 1
    assert not write_learner(root / "nbs" / path.name, work).changed


@pytest.mark.parametrize("change", LEFT)
def test_an_odd_cell_is_one_sentence(root, work, change):
    path = work / "03_forward.ipynb"
    spoil(path, change)
    before = path.read_bytes()
    with pytest.raises(ValueError) as caught:
        write_learner(root / "nbs" / path.name, work)
    said = str(caught.value)
    assert said.startswith("03_forward.ipynb: ") and "\n" not in said
    assert "it is left alone" in said and "FORCE=03_forward" in said
    assert path.read_bytes() == before


def test_the_others_are_made(root, tmp_path, monkeypatch, capsys, work):
    "As `make learn` does it, with two odd files and one missing."
    import learn

    solved = [root / "nbs" / f"{name}.ipynb" for name in NAMES]
    monkeypatch.setattr(learn, "notebooks", lambda: solved)
    spoil(work / "93_notation.ipynb", lambda nb: nb["cells"][0].clear())
    (work / "95_references.ipynb").unlink()
    (work / "95_references.ipynb").mkdir()
    (work / "03_forward.ipynb").unlink()
    learn.make(work)
    first, *left = capsys.readouterr().out.strip().splitlines()
    assert first.endswith("/: 1 notebooks written.")
    assert [line.split(":")[0] for line in left] == [
        "93_notation.ipynb",
        "95_references.ipynb",
    ]
    assert "that is no file" in left[1]
    assert (work / "03_forward.ipynb").is_file()


def test_a_work_folder_that_is_a_file(root, tmp_path, monkeypatch, capsys):
    import learn

    (tmp_path / "work").write_text("mine")
    with pytest.raises(SystemExit) as caught:
        learn.make(tmp_path / "work")
    assert "\n" not in str(caught.value) and "work" in str(caught.value)
    assert (tmp_path / "work").read_text() == "mine"
