"""OWLv2 and OWL-ViT: names that are given become tags; vectors and boxes are those of the class in transformers."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from transformers import AutoTokenizer, Owlv2ForObjectDetection, OwlViTForObjectDetection

from itmkit.cache import CacheReader
from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.errors import ItmkitError
from itmkit.inputs.needs import Needs
from itmkit.job import Job
from itmkit.regions.any_detector import load_any_detector
from itmkit.regions.extract import extract_regions
from itmkit.regions.open_vocabulary import NMS
from itmkit.regions.vg_vocabulary import VISUAL_GENOME, names_to_find
from itmkit.runs.made import keep_manifest
from itmkit.scenes import make_scenes
from itmkit.trained.made import Made
from itmkit.trained.pictures import NewPictures
from itmkit.workspace import Workspace
from tests.regions.test_detector import build as build_detector
from tests.regions.test_detector import pictures, prepared
from tests.regions.tiny_owls import LIMIT, build_owl

NAMES = ["cat", "red ball", "cube", "a dog"]
CPU = Job(device="cpu", workers=1)


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "work")
    make_scenes(workspace, train=2, val=1, test=2)
    return workspace


@pytest.fixture(scope="module")
def owl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_owl(tmp_path_factory.mktemp("owl") / "owl")


def load(model: Path, names: Path | list[str] | None) -> Any:
    return load_any_detector(str(model), names, device="cpu", allow_download=False)


def filled_up(image: Image.Image) -> torch.Tensor:
    """As OWLv2 wants a picture: zeros at the right or below up to a square, smoothed, resized, normalised."""
    values = np.asarray(image, np.float64) / 255
    side = max(image.size)
    square = np.zeros((side, side, 3))
    square[: image.height, : image.width] = values
    factor = side / 64
    sigma = max(0.0, (factor - 1) / 2)
    smooth = ndimage.gaussian_filter(square, (sigma, sigma, 0), mode="mirror")
    small = ndimage.zoom(smooth, (1 / factor, 1 / factor, 1), order=1, mode="mirror", grid_mode=True)
    return normalised(np.clip(small, square.min(), square.max()))


def squashed(image: Image.Image) -> torch.Tensor:
    """As OWL-ViT wants a picture."""
    return normalised(np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC), np.float64) / 255)


def normalised(values: np.ndarray) -> torch.Tensor:
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    return torch.tensor((values - mean) / std, dtype=torch.float32).permute(2, 0, 1)[None]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return float(both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both))


def test_regions_are_those_of_a_literal_call(owl: Path, tmp_path: Path) -> None:
    model = Owlv2ForObjectDetection.from_pretrained(owl).eval()
    detector = load(owl, NAMES)
    for size in ((80, 60), (60, 90), (200, 70), (33, 35)):
        compare_with_literal_call(owl, model, detector, size, filled_up, (max(size), max(size)))
    older = build_owl(tmp_path / "older", kind="OwlViT")
    model = OwlViTForObjectDetection.from_pretrained(older).eval()
    detector = load(older, NAMES)
    for size in ((80, 60), (33, 90)):
        compare_with_literal_call(older, model, detector, size, squashed, size)


def compare_with_literal_call(
    owl: Path, model: Any, detector: Any, size: tuple[int, int], pixels: Any, frame: tuple[int, int]
) -> None:
    """pixels: makes the model's input. frame: what boxes are shares of, in pixels."""
    (image,) = pictures(size)
    texts = [f"a photo of a {name}" for name in NAMES]
    tokens = AutoTokenizer.from_pretrained(owl)(texts, padding="max_length", max_length=LIMIT, return_tensors="pt")
    with torch.inference_mode():
        output = model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], pixel_values=pixels(image)
        )
    scores, classes = output.logits[0].sigmoid().max(1)
    x, y, w, h = (output.pred_boxes[0].numpy() * np.tile(frame, 2)).T
    boxes = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)
    wanted: list[int] = []
    clipped = boxes.clip(0, [*size, *size])
    for patch in scores.argsort(descending=True).tolist():
        beside = boxes[patch, 0] >= size[0] or boxes[patch, 1] >= size[1]
        if not beside and all(iou(clipped[patch], clipped[other]) <= NMS for other in wanted):
            wanted.append(patch)

    (found,) = detector.detect(prepared(detector, [image]), regions=20)
    wanted = wanted[:20]
    assert len(found) == len(wanted)
    assert found.tags == [NAMES[classes[patch]] for patch in wanted] and len(set(found.tags)) > 1
    np.testing.assert_allclose(found.scores, scores[wanted], atol=1e-5)
    np.testing.assert_allclose(found.boxes, clipped[wanted], atol=1e-2)
    np.testing.assert_allclose(found.features, output.class_embeds[0, wanted], atol=1e-5)


def test_other_pictures_change_nothing(owl: Path) -> None:
    detector = load(owl, NAMES)
    images = pictures((80, 60), (60, 90), (64, 64))
    together = detector.detect(prepared(detector, images), regions=9, batch=2)
    for image, found in zip(images, together, strict=True):
        (alone,) = detector.detect(prepared(detector, [image]), regions=9)
        assert found.tags == alone.tags
        np.testing.assert_allclose(found.features, alone.features, atol=1e-5)


def test_the_names_are_made_to_vectors_once(owl: Path) -> None:
    detector = load(owl, NAMES)
    detector.model.owlv2.text_model = None
    assert len(detector.detect(prepared(detector, pictures((80, 60))), regions=3)[0]) == 3


def test_names_of_a_file_of_a_folder_and_of_visual_genome(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("Red  Ball\ncat,feline\ncube\ncat\n")
    assert names_to_find(file) == ["red ball", "cat", "cube"]
    (tmp_path / "objects_vocab.txt").write_text("dog\ncat")
    assert names_to_find(tmp_path) == ["dog", "cat"]
    shipped = names_to_find(None)
    assert shipped[:3] == ["yolk", "goal", "bathroom"] and len(set(shipped)) == len(shipped) > 1500
    assert (VISUAL_GENOME.parent / "NOTICE.md").is_file()


def test_what_is_refused(owl: Path, tmp_path: Path) -> None:
    with pytest.raises(ItmkitError, match="2 names of the vocabulary have more: a b c d, red red red red"):
        load(owl, ["cat", "a b c d", "red red red red"])
    omdet = build_detector("yolos", tmp_path / "yolos")
    with pytest.raises(ItmkitError, match=r"takes no --vocabulary.*Grounding DINO take one"):
        load(omdet, NAMES)
    config = json.loads((omdet / "config.json").read_text())
    (omdet / "config.json").write_text(json.dumps(config | {"model_type": "omdet-turbo"}))
    with pytest.raises(ItmkitError, match="OWLv2, .* are supported.*import-features"):
        load(omdet, None)
    settings = json.loads((owl / "preprocessor_config.json").read_text())
    unfilled = copytree(owl, tmp_path / "unfilled")
    (unfilled / "preprocessor_config.json").write_text(json.dumps(settings | {"do_pad": False}))
    with pytest.raises(ItmkitError, match="do_pad"):
        load(unfilled, NAMES)
    (omdet / "config.json").write_text(json.dumps(config | {"model_type": ["owlv2"]}))
    with pytest.raises(ItmkitError):
        load(omdet, None)
    vit = build_owl(tmp_path / "vit", kind="OwlViT")
    settings = json.loads((vit / "preprocessor_config.json").read_text())
    for crop in (64, 32):
        cut = {"do_center_crop": True, "crop_size": {"height": crop, "width": crop}}
        (vit / "preprocessor_config.json").write_text(json.dumps(settings | cut))
        if crop == 64:  # which cuts nothing off
            load(vit, NAMES)
    with pytest.raises(ItmkitError, match="do_center_crop"):
        load(vit, NAMES)


def test_what_is_wrong_with_a_vocabulary_is_said_before_anything_is_loaded(owl: Path, work: Workspace) -> None:
    (work.root / "gaps.txt").write_text("cat\n\ndog\n")
    for options, message in (
        ({"vocabulary": "missing.txt"}, r"missing\.txt: no such file; --vocabulary names a text file"),
        ({"vocabulary": "gaps.txt"}, r"gaps\.txt: no name in line 2"),  # beside the workspace's own files
        ({"vocabulary": "gaps.txt", "backend": "grid"}, "vocabulary: for the detectron2 backend"),
    ):
        with pytest.raises(ItmkitError, match=message):
            extract_regions(work, model=str(owl), job=CPU, **options)
    assert not work.cache("regions").exists()


def test_another_vocabulary_is_another_cache_and_a_run_reads_new_pictures_with_the_names_of_training(
    owl: Path, tmp_path: Path, work: Workspace
) -> None:
    file = tmp_path / "names.txt"
    file.write_text("\n".join(NAMES))
    options = ["--model", str(owl), "--vocabulary", str(file), "--regions", "6", "--device", "cpu", "--workers", "1"]
    assert run(cli, ["extract-regions", "-w", str(work.root), *options]) == 0
    reader = CacheReader.open(work.cache("regions"))
    assert reader.tables["tags"] == NAMES
    assert extract_regions(work).unchanged
    other = tmp_path / "other.txt"
    other.write_text("\n".join(NAMES[::-1]))
    visual_genome: dict[str, Any] = {"model": str(owl)}  # without names of one's own
    for otherwise in ({"vocabulary": other}, visual_genome):
        with pytest.raises(ItmkitError, match="vocabulary"):
            extract_regions(work, regions=6, job=CPU, **otherwise)

    # A run keeps what made its caches; the names are in there, so their file is not needed any more.
    keep_manifest(work.cache("regions"), "regions", work.run("run"))
    file.unlink()
    made = Made(work.run("run"), {"regions": reader.manifest.fingerprint}, {})
    images = work.dataset().split("test")
    new = NewPictures(made, Needs(), "cpu")
    rows = new.rows([new.load(Image.open(work.image_path(image.file or ""))) for image in images])
    numbers = [[image.id for image in work.dataset().images].index(image.id) for image in images]
    np.testing.assert_allclose(rows.features, reader.read_all("features")[numbers], atol=1e-3)
    np.testing.assert_allclose(rows.columns["boxes"], reader.read_all("boxes")[numbers], atol=1e-2)
    assert (rows.columns["tags"] == reader.read_all("tags")[numbers]).all()
