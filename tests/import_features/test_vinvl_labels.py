"""VinVL's labels.tsv beside features.tsv."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from itmkit.cache import CacheReader
from itmkit.errors import ItmkitError
from itmkit.import_features.bottom_up_tsv import BottomUpFiles
from itmkit.import_features.region_sets import RegionSet
from itmkit.import_features.sets import import_bottom_up
from itmkit.workspace import Workspace
from tests.import_features.feature_files import HEIGHT, WIDTH, data_set, drawn

KEYS = ["9", "25", "30"]
ROWS = {key: drawn(key) for key in KEYS}


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return data_set(tmp_path / "work", KEYS)


def features(folder: Path) -> Path:
    """features.tsv as released: each region ends with its box as shares of the picture, and its width and height."""
    lines = []
    for key, row in ROWS.items():
        box = row["boxes"] / np.array([WIDTH, HEIGHT] * 2, np.float32)
        values = np.concatenate([row["features"], box, box[:, 2:] - box[:, :2]], axis=1).astype("<f4")
        lines.append(f"{key}\t{json.dumps({'num_boxes': row['n'], 'features': base64.b64encode(values).decode()})}\n")
    (folder / "features.tsv").write_text("".join(lines))
    return folder / "features.tsv"


def objects(key: str) -> list[dict[str, Any]]:
    row = ROWS[key]
    each = zip(row["objects"], row["confidences"], row["boxes"], strict=True)
    return [{"class": f"kind {kind}", "conf": float(conf), "rect": box.tolist()} for kind, conf, box in each]


def labels(folder: Path, of_each: dict[str, Any]) -> Path:
    (folder / "labels.tsv").write_text("".join(f"{key}\t{json.dumps(found)}\n" for key, found in of_each.items()))
    return folder / "labels.tsv"


@pytest.mark.parametrize("inside", [False, True])
def test_classes_become_tags_of_the_regions(tmp_path: Path, work: Workspace, inside: bool) -> None:
    found = {"77": [], "30": objects("30"), "9": objects("9")}
    paths = [labels(tmp_path, {k: {"objects": v} if inside else v for k, v in found.items()}), features(tmp_path)]
    result = import_bottom_up(work, paths)
    assert result.images == 3 and result.extras == ("boxes", "sizes", "scores", "tags")
    assert "say nothing of 1 pictures" in result.notes[0]
    reader = CacheReader.open(work.cache("regions"))
    names, tags = reader.manifest.tables["tags"], reader.read_all("tags")
    for place, key in ((0, "9"), (2, "30")):
        assert [names[number] for number in tags[place]] == [f"kind {kind}" for kind in ROWS[key]["objects"]]
        assert np.allclose(reader.read_all("scores")[place], ROWS[key]["confidences"])
        assert np.array_equal(reader.read_all("features")[place], ROWS[key]["features"].astype(np.float16))
    assert (tags[1] == -1).all()
    assert import_bottom_up(work, paths).unchanged
    labels(tmp_path, {key: objects(key) for key in KEYS})
    with pytest.raises(ItmkitError, match="files_sha256 changed"):
        import_bottom_up(work, paths)


def test_labels_without_confidences_and_rectangles(tmp_path: Path, work: Workspace) -> None:
    bare = {key: [{"class": one["class"]} for one in objects(key)] for key in KEYS}
    assert import_bottom_up(work, [features(tmp_path), labels(tmp_path, bare)]).extras == ("boxes", "sizes", "tags")


def test_labels_that_are_not_of_these_regions(tmp_path: Path, work: Workspace) -> None:
    found: dict[str, Any] = {
        "9": objects("9")[:2],
        "25": objects("25")[::-1],
        "30": objects("30"),
        "31": [{"rect": 1}],
        "32": 3,
        "35": [{"class": "dog", "conf": float("nan")}],
    }
    paths = [features(tmp_path), labels(tmp_path, found)]
    with open(paths[1], "a") as more:
        more.write("30\t[]\n33\t[{\n34\n")
    with pytest.raises(ItmkitError) as caught:
        import_bottom_up(work, paths)
    told = "\n".join(caught.value.problems)
    for part in (
        "3 boxes, and 2 labels (line 1 of labels.tsv), which are of another detector in line 1 (picture 9)",
        "boxes that are not those of the labels (line 2 of labels.tsv), or in another order in line 2 (picture 25)",
        "an object without `class`, or with `feature`, among labels in line 4",
        "neither `features` nor a list `objects` in its JSON in line 5",
        "an object whose `conf` is 'nan', a number is needed in line 6",
        "the id of line 3 again in line 7 (picture 30)",
        "a second field that is not JSON; cut short? in line 8",
        "1 fields between tabs instead of 2; cut short? in line 9",
    ):
        assert part in told, part
    assert import_bottom_up(work, paths, skip_damaged=True).images == 1


def test_a_wrong_confidence_in_the_first_line_leaves_the_file_one_of_labels(tmp_path: Path, work: Workspace) -> None:
    found = {key: objects(key) for key in KEYS}
    found[KEYS[0]][0]["conf"] = float("nan")
    paths = [features(tmp_path), labels(tmp_path, found)]
    with pytest.raises(ItmkitError, match=r"an object whose `conf` is 'nan', a number is needed in line 1 \(--skip"):
        import_bottom_up(work, paths)
    assert "tags" in import_bottom_up(work, paths, skip_damaged=True).extras


def test_labels_alone_are_no_features(tmp_path: Path, work: Workspace) -> None:
    with pytest.raises(ItmkitError, match=r"labels\.tsv: holds labels without features; name VinVL's features\.tsv"):
        import_bottom_up(work, [labels(tmp_path, {"9": objects("9")})])


def test_files_of_one_name_are_each_watched(tmp_path: Path, work: Workspace) -> None:
    (tmp_path / "val").mkdir()
    paths = [features(tmp_path), labels(tmp_path, {key: objects(key) for key in ("9", "30")})]
    paths.append(labels(tmp_path / "val", {"25": objects("25")}))
    import_bottom_up(work, paths)
    assert import_bottom_up(work, paths).unchanged
    for place, key in ((tmp_path, "9"), (tmp_path / "val", "25")):
        kept = (place / "labels.tsv").read_text()
        renamed = [one | {"class": "other"} for one in objects(key)]
        labels(place, {key: renamed})
        with pytest.raises(ItmkitError, match="files_sha256 changed"):
            import_bottom_up(work, paths)
        (place / "labels.tsv").write_text(kept)


@pytest.mark.parametrize("force", [False, True])
def test_a_killed_import_goes_on_with_its_files_in_another_order(
    tmp_path: Path, work: Workspace, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    (tmp_path / "val").mkdir()
    named = {key: [one | {"class": f"{key}: {number}"} for number, one in enumerate(objects(key))] for key in KEYS}
    parts = [{"9": named["9"]}, {"25": named["25"], "30": named["30"]}]
    paths = [labels(tmp_path, parts[0]), labels(tmp_path / "val", parts[1]), features(tmp_path)]
    if force:
        import_bottom_up(work, paths, regions=9)
    read = BottomUpFiles.read

    def dying(files: BottomUpFiles, place: int) -> RegionSet:
        if files.ids[place] == "30":
            raise KeyboardInterrupt
        return read(files, place)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(BottomUpFiles, "read", dying)
        import_bottom_up(work, paths, shard_size=1, force=force)
    import_bottom_up(work, [paths[1], paths[0], paths[2]], shard_size=1, force=force)
    reader = CacheReader.open(work.cache("regions"))
    names, tags = reader.manifest.tables["tags"], reader.read_all("tags")
    assert [[names[number] for number in row] for row in tags] == [[one["class"] for one in named[key]] for key in KEYS]


def test_a_damaged_first_line_and_a_byte_order_mark_leave_the_other_labels(tmp_path: Path, work: Workspace) -> None:
    paths = [features(tmp_path), labels(tmp_path, {key: objects(key) for key in KEYS})]
    text = paths[1].read_text()
    paths[1].write_text(text[:20] + text[text.index("\n") :])
    result = import_bottom_up(work, paths, skip_damaged=True)
    assert "tags" in result.extras and len(result.damaged) == 1
    paths[1].write_text("\ufeff" + text, encoding="utf-8")
    assert not any(
        "without" in note or "say nothing" in note for note in import_bottom_up(work, paths, force=True).notes
    )
