from __future__ import annotations

from pathlib import Path

import pytest

from itmkit.datasets.pairs import prepare_csv
from itmkit.datasets.skip import Skip
from itmkit.errors import ItmkitError
from itmkit.workspace import Workspace
from tests.workspaces import save_picture


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, name in enumerate(("a.jpg", "b.png")):
        save_picture(tmp_path / name, colour=number)
    return tmp_path


def test_files_that_cannot_be_read_and_rows_that_cannot_are_reported_at_once(photos: Path) -> None:
    contents = {
        "a.csv": "image,caption\na.jpg,A,more\na.jpg,A\n",
        "b.csv": "picture,caption\n",
        "c.csv": b"image,words\na.jpg,caf\xe9\n",
        "d.csv": "image,caption\na.jpg,A\n",
    }
    for name, content in contents.items():
        (photos / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ItmkitError) as caught:
        prepare_csv(Workspace(photos), [photos / name for name in (*contents, "gone.csv")])
    told = [problem.removeprefix(f"{photos}/")[:52] for problem in caught.value.problems]
    assert told == [
        "a.csv: line 2: has 3 cells, the header 2 (--skip-dam",
        "c.csv: line 2: byte 10 (0xe9) is not UTF-8; convert ",
        "b.csv: line 1: has no column image; found ['picture'",
        "c.csv: line 1: has no column caption; found ['image'",
        "gone.csv: no such file",
    ]


def test_a_row_of_thousands_of_lines_spoils_no_later_row(photos: Path) -> None:
    """After a quote that does not end, each line is read again; so is each that follows a row that cannot be read."""
    rows = "".join(f'a.jpg,"{n}\n' for n in range(300))
    (photos / "t.csv").write_text(f"image,caption\n{rows}b.png,B\n")
    result = prepare_csv(Workspace(photos), photos / "t.csv", split="train", skip=Skip(damaged=True))
    (image,) = Workspace(photos).dataset().images
    assert [caption.text for caption in image.captions] == ["B"] and len(result.left_out) == 300
