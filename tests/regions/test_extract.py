"""The stage, mostly with a stand-in for the model: what it gives for a picture depends on that picture only."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from itmkit.cache import CacheReader
from itmkit.dataset import Caption, ImageRecord, read_dataset, write_dataset
from itmkit.errors import ItmkitError
from itmkit.files import sha256_file
from itmkit.job import Job
from itmkit.pictures import stage
from itmkit.pictures.decode import Square
from itmkit.regions import choose, extract
from itmkit.regions.choose import DEFAULT_DETECTOR, SCENES, Choice
from itmkit.regions.colours import COLOUR_NAMES
from itmkit.regions.extract import extract_regions
from itmkit.regions.regions import ModelInput, Regions
from itmkit.stages import cache_state
from itmkit.workspace import Workspace
from tests import jobs

DIM = 6


@dataclass
class Model:
    """Two regions a picture: the whole, with its mean colour as feature, and its left half."""

    sha256: str = "weights"
    dim: int = DIM
    names: list[str] = field(default_factory=lambda: ["thing", "half"])
    attribute_names: list[str] | None = None
    seen: list[int] = field(default_factory=list)
    stop_after: int | None = None
    square: Square | None = None

    def prepare(self, image: Image.Image) -> ModelInput:
        return ModelInput(np.asarray(image, np.float32).reshape(-1, 3).mean(0), image.size)

    def detect(
        self, prepared: Sequence[ModelInput], *, regions: int, labels: Sequence[str] | None, batch: int
    ) -> list[Regions]:
        self.seen.append(len(prepared))
        if self.stop_after is not None and sum(self.seen) > self.stop_after:
            raise KeyboardInterrupt
        found = []
        for one in prepared:
            features = np.zeros((2, DIM), np.float32)
            features[:, :3], features[1, 5] = one.inputs, 1
            w, h = one.size
            boxes = np.array([[0, 0, w, h], [0, 0, w / 2, h]], np.float32)
            found.append(Regions(boxes, np.array([0.9, 0.5], np.float32), features, ["thing", ""]))
        return found


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    model = Model()
    monkeypatch.setattr(extract, "load", lambda choice, *, device, download: model)
    monkeypatch.setattr(choose, "_settings_digest", lambda choice, backend: "settings")
    return model


PICTURES = 9


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return make(tmp_path / "work")


def make(root: Path, *, kind: str = "pairs") -> Workspace:
    """Pictures of one colour each, of several sizes and modes."""
    work = Workspace(root)
    (root / "images").mkdir(parents=True)
    for i in range(PICTURES):
        mode = ("RGB", "L", "CMYK")[i % 3]
        image = Image.new("RGB", (40 + 7 * i, 30 + 3 * i), (250, 10, 10) if i % 2 else (10, 10, 250))
        image.convert(mode).save(root / "images" / f"{i}.jpg")
    prepare(work, kind=kind)
    return work


def prepare(work: Workspace, *, kind: str = "pairs") -> None:
    images = []
    for i in range(PICTURES):
        path = work.root / "images" / f"{i}.jpg"
        with_file = {"file": f"images/{i}.jpg", "sha256": sha256_file(path)}
        images.append(ImageRecord(f"p{i}", "train", (Caption(f"p{i}#0", "a picture"),), **with_file))
    write_dataset(work.dataset_path, images, kind=kind, settings={})


def run(work: Workspace, **options: object) -> extract.ExtractResult:
    return extract_regions(
        work, **jobs.options(**{"backend": "grid", "model": "m", "regions": 3, "device": "cpu", **options})
    )


def test_rows(work: Workspace, model: Model, decoding_children: None) -> None:
    result = run(work)
    assert (result.images, result.regions, result.dim, result.skipped, result.unchanged) == (9, 3, DIM, [], False)
    reader = CacheReader.open(work.cache("regions"))
    assert reader.ids == [f"p{i}" for i in range(9)]
    assert reader.read_all("count").tolist() == [2] * 9
    features, boxes = reader.read_all("features"), reader.read_all("boxes")
    assert features.dtype == np.float16 and not features[:, 2].any() and not boxes[:, 2].any()
    assert boxes[4, 0].tolist() == [0, 0, 68, 42] and reader.read_all("size")[4].tolist() == [68, 42]
    assert reader.tables["attributes"] == list(COLOUR_NAMES) and reader.tables["tags"] == ["thing", "half"]
    colours = [COLOUR_NAMES[k] for k in reader.read_all("attributes")[:, 0]]
    assert colours[0] == "blue" and colours[3] == "red"
    assert (reader.read_all("attributes")[:, 2] == -1).all()
    assert reader.read_all("tags").tolist() == [[0, -1, -1]] * 9
    assert cache_state(work, "regions", read_dataset(work.dataset_path)).state == "done"


def test_again_does_nothing(work: Workspace, model: Model) -> None:
    run(work)
    model.seen.clear()
    assert run(work).unchanged and model.seen == []
    assert extract_regions(work).unchanged  # with no option: as the cache was made, without loading the model
    with pytest.raises(ItmkitError, match=r"settings\.regions is 3 in the cache, 2 now.*--force"):
        extract_regions(work, regions=2, job=Job(device="cpu"))
    assert run(work, regions=2, force=True).regions == 2


def test_resumed_is_byte_identical(
    tmp_path: Path, work: Workspace, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "LEAST_GROUP", 2)
    (work.root / "images" / "4.jpg").write_bytes(b"no picture")
    prepare(work)
    whole = Workspace(shutil.copytree(work.root, tmp_path / "whole"))
    run(whole, shard_size=4)
    names = sorted(path.name for path in whole.cache("regions").iterdir())
    for stop, done in ((0, 0), (3, 0), (7, 8)):
        killed = Workspace(shutil.copytree(work.root, tmp_path / str(stop)))
        model.seen.clear()
        model.stop_after = stop
        with pytest.raises(KeyboardInterrupt):
            run(killed, shard_size=4)
        model.stop_after = None
        assert run(killed, shard_size=4).done_now == 9 - done
        assert names == sorted(path.name for path in killed.cache("regions").iterdir())
        for name in names:
            digests = [hashlib.sha256((w.cache("regions") / name).read_bytes()).digest() for w in (whole, killed)]
            assert digests[0] == digests[1], name


def test_unreadable_pictures_are_skipped_and_listed(work: Workspace, model: Model) -> None:
    (work.root / "images" / "3.jpg").write_bytes(b"no picture")
    noise = np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(work.root / "images" / "5.jpg")
    whole = (work.root / "images" / "5.jpg").read_bytes()
    (work.root / "images" / "5.jpg").write_bytes(whole[: len(whole) - 500])
    prepare(work)
    result = run(work)
    assert result.images == 7 and [item["id"] for item in result.skipped] == ["p3", "p5"]
    assert result.skipped[0]["reason"].startswith("not a picture") and result.skipped[1]["reason"] == "truncated"
    state = cache_state(work, "regions", read_dataset(work.dataset_path))
    assert (state.state, state.count, state.skipped) == ("done", 7, 2)
    for force in (False, True):  # a finished cache, and a new one
        with pytest.raises(ItmkitError) as caught:
            run(work, strict=True, force=force)
        assert len(caught.value.problems) == 2
        assert caught.value.problems[1].endswith("5.jpg: truncated")


def test_strict_stops_before_writing(work: Workspace, model: Model) -> None:
    (work.root / "images" / "8.jpg").write_bytes(b"no picture")
    prepare(work)
    with pytest.raises(ItmkitError, match=r"8\.jpg: not a picture"):
        run(work, strict=True)
    assert cache_state(work, "regions", read_dataset(work.dataset_path)).state == "missing"


def test_changed_and_missing_pictures_stop_the_run(work: Workspace, model: Model) -> None:
    Image.new("RGB", (9, 9)).save(work.root / "images" / "2.jpg")
    (work.root / "images" / "6.jpg").unlink()
    with pytest.raises(ItmkitError) as caught:
        run(work)
    text = caught.value.problems
    assert "2.jpg: changed since" in text[0] and "6.jpg: missing since" in text[1] and "prepare" in text[2]


def test_nothing_readable(work: Workspace, model: Model) -> None:
    for path in (work.root / "images").iterdir():
        path.write_bytes(b"x")
    prepare(work)
    with pytest.raises(ItmkitError, match="none of the 9 pictures can be read"):
        run(work)


def test_very_large_pictures_are_reduced_for_the_model_only(work: Workspace, model: Model) -> None:
    Image.new("RGB", (5000, 30)).save(work.root / "images" / "0.jpg")
    prepare(work)
    run(work)
    reader = CacheReader.open(work.cache("regions"))
    assert reader.read_all("size")[0].tolist() == [5000, 30]
    np.testing.assert_allclose(reader.read_all("boxes")[0, :2], [[0, 0, 5000, 30], [0, 0, 2500, 30]])


def test_pictures_squashed_where_they_are_decoded(work: Workspace, model: Model) -> None:
    """Boxes come out in pixels of the picture all the same, and colours from the square."""
    run(work)
    whole = CacheReader.open(work.cache("regions"))
    before = {name: whole.read_all(name) for name in ("boxes", "size", "attributes")}
    model.square = Square(20, 2)
    run(work, force=True)
    squashed = CacheReader.open(work.cache("regions"))
    for name, values in before.items():
        np.testing.assert_allclose(squashed.read_all(name), values, rtol=1e-6)


def test_no_files(tmp_path: Path, model: Model) -> None:
    work = Workspace(tmp_path)
    write_dataset(work.dataset_path, [ImageRecord("a", "train", (Caption("a#0", "b"),))], kind="scan", settings={})
    with pytest.raises(ItmkitError, match="names no picture files"):
        run(work)
    with pytest.raises(ItmkitError, match="no data set"):
        run(Workspace(tmp_path / "empty"))


def test_a_device_that_is_not_there(work: Workspace, model: Model) -> None:
    for device in ("cuda:99", "quantum"):
        with pytest.raises(ItmkitError, match=f"--device {device}: cannot be used here"):
            run(work, device=device)


def test_other_data(work: Workspace, model: Model) -> None:
    run(work)
    Image.new("RGB", (9, 9)).save(work.root / "images" / "2.jpg")
    prepare(work)
    assert cache_state(work, "regions", read_dataset(work.dataset_path)).state == "stale"
    with pytest.raises(ItmkitError, match=r"inputs\.images changed"):
        run(work)


# Which model: options, then workspace.toml, then the cache that is there, then a default.


def chosen(work: Workspace, **options: object) -> Choice:
    given = {"backend": None, "model": None, "regions": None, "size": None} | options
    return choose.choose(work, read_dataset(work.dataset_path), **given)  # type: ignore[arg-type]


def toml(work: Workspace, text: str) -> None:
    (work.root / "workspace.toml").write_text(f"[extract-regions]\n{text}\n")


def test_defaults(tmp_path: Path) -> None:
    scenes = chosen(make(tmp_path / "scenes", kind="scenes"))
    assert (scenes.backend, scenes.model, scenes.regions, scenes.named) == ("detector", SCENES, 36, False)
    photographs = chosen(make(tmp_path / "photographs"))
    assert (photographs.backend, photographs.model, photographs.named) == ("detector", DEFAULT_DETECTOR, False)


def test_workspace_settings(work: Workspace, model: Model) -> None:
    toml(work, 'backend = "grid"\nmodel = "models/m"\nregions = 20\nsize = 64')
    (work.root / "models" / "m").mkdir(parents=True)
    choice = chosen(work)
    assert (choice.backend, choice.regions, choice.size, choice.named) == ("grid", 20, 64, True)
    assert choice.model == str((work.root / "models" / "m").resolve())
    assert chosen(work, regions=5).regions == 5
    assert chosen(work, model="other/model").model == "other/model"
    detector = chosen(work, backend="detector")
    assert (detector.model, detector.size, detector.regions) == (DEFAULT_DETECTOR, None, 20)
    toml(work, 'model = "some/detector"')  # of the backend that is taken where none is named
    assert chosen(work, backend="detector").model == chosen(work).model == "some/detector"


def test_the_cache_that_is_there(work: Workspace, model: Model) -> None:
    model.stop_after = 0
    with pytest.raises(KeyboardInterrupt):
        run(work, model="some/model")
    choice = chosen(work)
    assert (choice.backend, choice.model, choice.regions, choice.settled) == ("grid", "some/model", 3, False)
    model.stop_after = None
    run(work, model="some/model")
    assert chosen(work).settled and not chosen(work, regions=3).settled


def test_precision(work: Workspace, model: Model) -> None:
    run(work)
    assert "precision" not in CacheReader.open(work.cache("regions")).manifest.made_by.settings
    with pytest.raises(ItmkitError, match="precision"):
        run(work, precision="bfloat16")
    run(work, precision="bfloat16", force=True)
    assert CacheReader.open(work.cache("regions")).manifest.made_by.settings["precision"] == "bfloat16"
    assert chosen(work).precision == "bfloat16" and extract_regions(work).unchanged
    for backend in ("detector", "detectron2"):
        with pytest.raises(ItmkitError, match="precision float16: with the grid backend only"):
            chosen(work, backend=backend, precision="float16")
    with pytest.raises(ItmkitError, match="precision 'half': there are float32, bfloat16, float16"):
        chosen(work, backend="grid", model="m", precision="half")


def test_settings_that_do_not_exist(work: Workspace) -> None:
    toml(work, 'backend = "yolo"\nmodell = "x"\nregions = 0\nsize = 9')
    with pytest.raises(ItmkitError, match=r"no setting 'modell'; did you mean 'model'\?"):
        chosen(work)
    toml(work, 'backend = "yolo"\nregions = 0\nsize = 9')
    with pytest.raises(ItmkitError) as caught:
        chosen(work)
    text = "\n".join(caught.value.problems)
    for part in ("'yolo'", "regions is 0", "size is 9"):
        assert part in text
    toml(work, "")
    with pytest.raises(ItmkitError, match="--backend grid needs --model"):
        chosen(work, backend="grid")
    with pytest.raises(ItmkitError, match="size is a setting of the grid"):
        chosen(work, size=64)


def test_offline_without_the_default_model(work: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub is not asked, and the error lists the ways out."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ItmkitError) as caught:
        extract_regions(work, job=Job(device="cpu"))
    text = caught.value.problems[0]
    for part in ("facebook/detr-resnet-50", "path of a folder", "--download", "--backend grid", "import-features"):
        assert part in text
