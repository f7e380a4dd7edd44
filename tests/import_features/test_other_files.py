"""Containers of other projects: VinVL's TSV, folders of .npy and .pt, UpDown's HDF5."""

from __future__ import annotations

import base64
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from itmkit.cache import CacheReader, read_manifest
from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.errors import ItmkitError
from itmkit.import_features.sets import import_bottom_up, import_many_pictures, import_npz, import_picture_files
from itmkit.import_features.vinvl_lines import split_appended
from itmkit.workspace import Workspace
from tests.import_features.feature_files import DIM, HEIGHT, WIDTH, data_set, drawn, write_npz

KEYS = ["9", "25", "30"]
SHARES = np.array([WIDTH, HEIGHT] * 2, np.float32)


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return data_set(tmp_path / "work", KEYS)


def appended(row: dict[str, Any], *, turned: bool = False) -> np.ndarray:
    """(n, D + 6): the features of a region, then its box as VinVL writes it."""
    box = row["boxes"] / SHARES
    sides = box[:, 2:] - box[:, :2]
    return np.concatenate([row["features"], box, sides[:, ::-1] if turned else sides], axis=1).astype("<f4")


def text(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def check_cache(work: Workspace, keys: list[str] = KEYS, *, boxes: bool = True) -> None:
    """The cache holds what `drawn` draws for the pictures, with boxes in pixels."""
    reader = CacheReader.open(work.cache("regions"))
    assert reader.ids == keys
    for place, key in enumerate(keys):
        row = drawn(key)
        assert np.array_equal(reader.read_all("features")[place][: row["n"]], row["features"].astype(np.float16))
        found = reader.read_all("boxes")[place][: row["n"]]
        assert np.allclose(found, row["boxes"], atol=0.01) if boxes else not found.any()
        assert reader.read_all("size")[place].tolist() == [WIDTH, HEIGHT]


@pytest.mark.parametrize("fields", [2, 3])
def test_vinvl_features_with_the_boxes_appended(tmp_path: Path, work: Workspace, fields: int) -> None:
    file = tmp_path / "features.tsv"
    with open(file, "w") as out:
        for number, key in enumerate(KEYS):
            row = drawn(key)
            code = text(appended(row, turned=number == 1))
            rest = [json.dumps({"num_boxes": row["n"], "features": code})] if fields == 2 else [str(row["n"]), code]
            out.write("\t".join([key, *rest]) + "\n")
    result = import_bottom_up(work, [file])
    assert (result.dim, result.extras) == (DIM, ("boxes", "sizes")) and "between 0 and 1" in result.notes[-1]
    check_cache(work)
    assert import_bottom_up(work, [file]).unchanged


def test_vinvl_predictions_with_classes(tmp_path: Path, work: Workspace) -> None:
    file = tmp_path / "predictions.tsv"
    with open(file, "w") as out:
        for key in KEYS:
            row = drawn(key)
            objects = [
                {"class": f"kind {kind}", "conf": float(conf), "rect": box.tolist(), "feature": text(feature)}
                for kind, conf, box, feature in zip(
                    row["objects"], row["confidences"], row["boxes"], row["features"], strict=True
                )
            ]
            out.write(f"{key}\t{json.dumps({'image_h': HEIGHT, 'image_w': WIDTH, 'objects': objects})}\n")
    assert import_bottom_up(work, [file]).extras == ("boxes", "sizes", "scores", "tags")
    check_cache(work)
    reader = CacheReader.open(work.cache("regions"))
    tags = [reader.manifest.tables["tags"][number] for number in reader.read_all("tags")[0]]
    assert tags == [f"kind {kind}" for kind in drawn(KEYS[0])["objects"]]


def test_vinvl_lines_that_are_wrong(tmp_path: Path, work: Workspace) -> None:
    file, row = tmp_path / "features.tsv", drawn("9")
    lines = [
        f"9\t3\t{text(appended(row))}",
        f"25\t3\t{text(row['features'])}",
        "30\t{",
        '31\t[{"class": "dog", "rect": [1, 2, 3, 4]}]',
        f'32\t{{"num_boxes": 5, "features": "{text(appended(row))}"}}',
        '33\t{"objects": [{"feature": "!", "rect": [1, 2, 3, 4]}]}',
    ]
    file.write_text("\n".join(lines))
    with pytest.raises(ItmkitError) as caught:
        import_bottom_up(work, [file])
    told = "\n".join(caught.value.problems)
    for part in (
        f"no box in the last 6 of the {DIM} numbers a region (x1 y1 x2 y2, width and height as shares of the picture)",
        "a second field that is not JSON; cut short? in line 3",
        "labels without features (a labels.tsv?)",
        "num_boxes is 5, features holds",
        "`feature` that is not base64 in line 6",
    ):
        assert part in told, part
    result = import_bottom_up(work, [file], skip_damaged=True)
    assert (result.images, len(result.damaged)) == (1, 5)


def test_features_that_only_look_like_boxes_are_features() -> None:
    rng = np.random.default_rng(0)
    assert split_appended(rng.uniform(size=(5, 12)).astype(np.float32)) is None
    assert split_appended(np.zeros((5, 12), np.float32)) is None


def test_folders_of_npy_with_and_without_boxes(tmp_path: Path, work: Workspace) -> None:
    features, boxes = tmp_path / "att", tmp_path / "box"
    features.mkdir()
    boxes.mkdir()
    for key in KEYS:
        np.save(features / f"{key}.npy", drawn(key)["features"])
        np.save(boxes / f"{key}.npy", drawn(key)["boxes"] / SHARES)
    np.save(features / "9_info.npy", np.array({"bbox": 1}, object))
    result = import_picture_files(work, features, ".npy")
    assert result.extras == ("sizes",) and "1 files *_info.npy are pickled" in result.notes[0]
    check_cache(work, boxes=False)
    with pytest.raises(ItmkitError, match="--force"):
        import_picture_files(work, features, ".npy", boxes=boxes)
    import_picture_files(work, features, ".npy", boxes=boxes, force=True)
    check_cache(work)
    (boxes / "25.npy").unlink()
    with pytest.raises(ItmkitError, match=r"no 25\.npy in the folder of boxes in file 25\.npy"):
        import_picture_files(work, features, ".npy", boxes=boxes, force=True)
    with pytest.raises(ItmkitError, match=r"no \.pt files, but \.npy files: `itmkit import-features npy` reads such"):
        import_picture_files(work, features, ".pt")


def test_pickles_and_arrays_of_python_2(tmp_path: Path, work: Workspace) -> None:
    folder = tmp_path / "npy"
    folder.mkdir()
    row = drawn("9")
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({row['n']}L, {DIM}L), }}".encode()
    head += b" " * (117 - len(head)) + b"\n"
    (folder / "9.npy").write_bytes(
        b"\x93NUMPY\1\0" + len(head).to_bytes(2, "little") + head + row["features"].tobytes()
    )
    (folder / "25.npy").write_bytes(pickle.dumps(row["features"], 2))
    (folder / "26.npy").write_bytes(pickle.dumps({"x": 1}, 0))
    np.save(folder / "30.npy", np.array([row["features"], 1], object))
    with pytest.raises(ItmkitError) as caught:
        import_picture_files(work, folder, ".npy")
    told = "\n".join(caught.value.problems)
    assert told.count("is a Python pickle, which is never read") == 1 and "in files 25.npy, 26.npy" in told
    assert "holds Python objects or records (object), a plain array is needed; objects are pickles" in told
    assert import_picture_files(work, folder, ".npy", skip_damaged=True).images == 1
    (tmp_path / "train_ims.npy").write_bytes(pickle.dumps(row["features"], 0))


def test_npz_with_other_names_and_turned_features(tmp_path: Path, work: Workspace) -> None:
    folder, boxes = tmp_path / "npz", tmp_path / "box"
    boxes.mkdir()
    for key in KEYS:
        row = drawn(key)
        write_npz(folder / "mcan", row, x=row["features"].T, info=False)
        none = dict.fromkeys(("x", "bbox", "num_bbox", "image_h", "image_w"))
        write_npz(folder / "att", row, info=False, feat=row["features"], **none)
        np.save(boxes / f"{key}.npy", row["boxes"])
    import_npz(work, folder / "mcan")
    check_cache(work)
    import_npz(work, folder / "att", boxes=boxes, force=True)
    check_cache(work)


def test_pt_folder_and_dict(tmp_path: Path, work: Workspace) -> None:
    folder = tmp_path / "pt"
    folder.mkdir()
    for key in KEYS:
        row = drawn(key)
        boxes = torch.from_numpy(row["boxes"])
        torch.save({"features": torch.from_numpy(row["features"]), "boxes": boxes}, folder / f"{key}.pt")
    import_picture_files(work, folder, ".pt")
    check_cache(work)
    file = tmp_path / "train_img_frcnn_feats.pt"
    torch.save({key: torch.from_numpy(appended(drawn(key))) for key in KEYS}, file)
    import_many_pictures(work, file, force=True)
    check_cache(work)


class Boom:
    """Would say so if it were unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("unpickled"),)


def test_pt_files_that_are_refused(tmp_path: Path, work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pt"
    folder.mkdir()
    tensor = torch.from_numpy(drawn("9")["features"])
    torch.save({"features": tensor, "info": Boom()}, folder / "9.pt")
    torch.save(tensor, folder / "25.pt", _use_new_zipfile_serialization=False)
    torch.save(tensor, folder / "30.pt")
    with (
        zipfile.ZipFile(folder / "30.pt") as archive,
        zipfile.ZipFile(folder / "31.pt", "w", zipfile.ZIP_DEFLATED) as out,
    ):
        for entry in archive.infolist():
            out.writestr(entry.filename, archive.read(entry))
    (folder / "32.pt").write_bytes(b"PK\3\4")
    with pytest.raises(ItmkitError) as caught:
        import_picture_files(work, folder, ".pt")
    told = "\n".join(caught.value.problems)
    for part in (
        "Python objects besides tensors, which are never read; save tensors alone in file 9.pt",
        "was saved by an old version of PyTorch",
        "is packed, which torch.save never does in file 31.pt",
        "a damaged one (BadZipFile) in file 32.pt",
    ):
        assert part in told, part
    assert not (tmp_path / "unpickled").exists()
    with pytest.raises(ItmkitError, match="holds no dict"):
        import_many_pictures(work, folder / "30.pt")


def updown(path: Path, keys: list[str] = KEYS) -> Path:
    """UpDown's file with a row a picture, padded, and the pickled index beside it."""
    with h5py.File(path, "w") as file:
        features, boxes = np.zeros((len(keys), 5, DIM), "<f4"), np.zeros((len(keys), 5, 4), "<f4")
        for place, key in enumerate(keys):
            features[place, :3], boxes[place, :3] = drawn(key)["features"], drawn(key)["boxes"]
        file["image_features"], file["image_bb"] = features, boxes
        file["spatial_features"] = np.zeros((len(keys), 5, 6), "<f4")
    index = path.with_name(f"{path.stem}_imgid2idx.pkl")
    index.write_bytes(pickle.dumps({int(key): place for place, key in enumerate(keys)}, 2))
    return path


def test_updown_hdf5_with_its_index(tmp_path: Path, work: Workspace) -> None:
    file = updown(tmp_path / "train36.hdf5")
    pkl, index = tmp_path / "train36_imgid2idx.pkl", tmp_path / "train36_imgid2idx.json"
    with pytest.raises(ItmkitError) as caught:
        import_many_pictures(work, file)
    (told,) = caught.value.problems
    assert "has 3 rows and does not say of which pictures; the index beside it, train36_imgid2idx.pkl" in told
    with pytest.raises(ItmkitError, match="is a Python pickle, which is never read"):
        import_many_pictures(work, file, index=pkl)
    # The command that the message gives makes the index.
    program = told.split('python -c "')[1].split('"; then')[0]
    exec(program)
    assert json.loads(index.read_text()) == {"9": 0, "25": 1, "30": 2}
    import_many_pictures(work, file)
    check_cache(work)
    index.write_text(json.dumps(KEYS[::-1]))
    import_many_pictures(work, file, force=True, skip_damaged=True)
    assert not np.array_equal(
        CacheReader.open(work.cache("regions")).read_all("features")[0][:3], drawn("9")["features"].astype(np.float16)
    )
    for wrong, why in (({"9": 7, "a": "b"}, "'a': 'b' is no row"), ([9], "1 ids for 3 rows"), (3, "neither an object")):
        index.write_text(json.dumps(wrong))
        with pytest.raises(ItmkitError, match=why):
            import_many_pictures(work, file)


def test_hdf5_with_positions_and_with_a_data_set_a_picture(tmp_path: Path, work: Workspace) -> None:
    rows = [drawn(key) for key in KEYS]
    with h5py.File(tmp_path / "trainval.hdf5", "w") as file:
        file["image_features"] = np.concatenate([row["features"] for row in rows])
        file["image_bb"] = np.concatenate([row["boxes"] for row in rows])
        file["pos_boxes"] = np.array([[0, 3], [3, 6], [6, 9]])
    (tmp_path / "ids.json").write_text(json.dumps([int(key) for key in KEYS]))
    import_many_pictures(work, tmp_path / "trainval.hdf5", index=tmp_path / "ids.json")
    check_cache(work)
    with h5py.File(tmp_path / "coco_detections.hdf5", "w") as file:
        for key, row in zip(KEYS, rows, strict=True):
            file[f"{key}_features"], file[f"{key}_boxes"] = row["features"], row["boxes"]
        file["31_features"] = h5py.ExternalLink("trainval.hdf5", "image_features")
    with pytest.raises(ItmkitError, match="is a ExternalLink, not data of this file in picture 31"):
        import_many_pictures(work, tmp_path / "coco_detections.hdf5", force=True)
    import_many_pictures(work, tmp_path / "coco_detections.hdf5", force=True, skip_damaged=True)
    check_cache(work)


def test_a_container_named_to_bottom_up_says_what_reads_it(tmp_path: Path, work: Workspace) -> None:
    file = updown(tmp_path / "train36.hdf5")
    np.save(tmp_path / "a.npy", np.zeros(3))
    torch.save(torch.zeros(3), tmp_path / "a.pt")
    files = [file, file.with_name("train36_imgid2idx.pkl"), tmp_path / "a.npy", tmp_path / "a.pt"]
    with pytest.raises(ItmkitError) as caught:
        import_bottom_up(work, files)
    for told, part in zip(caught.value.problems, ("hdf5 FILE", "hdf5 FILE", "npy FOLDER", "pt FILE"), strict=True):
        assert part in told


def test_boxes_that_do_not_fit_the_pictures_of_the_data_set(tmp_path: Path, work: Workspace) -> None:
    with h5py.File(tmp_path / "detections.hdf5", "w") as file:
        for key in KEYS:
            factor = 2 if key == "25" else 1
            file[f"{key}_features"], file[f"{key}_boxes"] = drawn(key)["features"], drawn(key)["boxes"] * factor
    with pytest.raises(ItmkitError, match="a box beyond the edge of picture '25', whose size is that of .*--skip-"):
        import_many_pictures(work, tmp_path / "detections.hdf5")
    assert not work.cache("regions").exists()
    result = import_many_pictures(work, tmp_path / "detections.hdf5", skip_damaged=True)
    check_cache(work, ["9", "30"])
    assert (result.left_out, [one["id"] for one in result.skipped]) == (0, ["25"])
    (damaged,) = read_manifest(work.cache("regions")).notes["damaged"]  # type: ignore[union-attr]
    assert damaged["place"] == "picture 25" and "a box beyond the edge" in damaged["reason"]
    with h5py.File(tmp_path / "detections.hdf5", "a") as file:
        for key in ("9", "30"):
            file[f"{key}_boxes"][:] = drawn(key)["boxes"] * 2
    with pytest.raises(ItmkitError, match="hold no box of any picture of the data set that can be used"):
        import_many_pictures(work, tmp_path / "detections.hdf5", skip_damaged=True, force=True)


def test_boxes_need_the_sizes_of_the_pictures(tmp_path: Path) -> None:
    work = Workspace(tmp_path / "bare")
    records = [ImageRecord(key, "train", (Caption(f"{key}#0", "a dog"),)) for key in KEYS]
    write_dataset(work.dataset_path, records, kind="pairs", settings={})
    (tmp_path / "features.tsv").write_text("".join(f"{key}\t3\t{text(appended(drawn(key)))}\n" for key in KEYS))
    with pytest.raises(
        ItmkitError, match="neither the files nor the data set say how large pictures '9', '25', '30' are"
    ):
        import_bottom_up(work, [tmp_path / "features.tsv"])
    assert not work.cache("regions").exists()
