"""The trial with upstream detectron2, skipped where it is not installed. docs/detectron2.md says how to install it.

Weights are random; names, shapes and what is computed are real. A few minutes on a CPU.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2")
pytest.importorskip("torchvision")

from detectron2 import model_zoo
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import build_model
from torchvision.ops import nms

from itmkit.cache import CacheReader
from itmkit.commands import cli
from itmkit.commands.console import run
from itmkit.dataset import Caption, ImageRecord, write_dataset
from itmkit.errors import ItmkitError
from itmkit.pictures.facts import picture_facts
from itmkit.regions.bottom_up import backend, network
from itmkit.regions.bottom_up.backend import BottomUp, load_bottom_up
from itmkit.regions.bottom_up.network import attribute_model
from itmkit.regions.bottom_up.pictures import scaled_size
from itmkit.regions.bottom_up.settings import BottomUpSettings
from itmkit.regions.bottom_up.stock import Stock, load_stock, read_config
from itmkit.regions.bottom_up.weights import file_name, fitted, read_weights
from itmkit.workspace import Workspace
from tests.regions.bottom_up import visual_genome
from tests.regions.tiny_models import prepared

PROPOSALS = 40  # instead of 300: a proposal costs 6 GFLOP in res5
STOCK = {
    "C4": "COCO-Detection/faster_rcnn_R_50_C4_1x.yaml",
    "FPN": "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
    "cascade with masks": "Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml",
}


@pytest.fixture(scope="module", autouse=True)
def few_proposals() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        if "ITMKIT_ALL_PROPOSALS" not in os.environ:
            patch.setattr(network, "PROPOSALS", PROPOSALS)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights and vocabulary of the Visual Genome model."""
    folder = tmp_path_factory.mktemp("bottom-up")
    visual_genome.write_checkpoint(folder / "faster_rcnn_from_caffe_attr.pkl")
    (folder / "objects_vocab.txt").write_text("".join(f"thing {n},other\n" for n in range(1600)))
    (folder / "attributes_vocab.txt").write_text("".join(f"kind {n}\n" for n in range(400)))
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> BottomUp:
    weights = folder / "faster_rcnn_from_caffe_attr.pkl"
    return load_bottom_up(BottomUpSettings(weights, None, folder, "original", 10))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are scaled to a third of what they should be, to save time."""
    monkeypatch.setattr(backend, "SHORTEST", 200)
    monkeypatch.setattr(backend, "LONGEST", 330)


def picture(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Blurred noise."""
    noise = np.random.default_rng(seed).integers(0, 255, (8, 10, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def test_names_and_shapes_of_the_fork(folder: Path) -> None:
    """None missing, none unexpected: said by `fitted`, and once more by comparing the sets of names."""
    ours = attribute_model().state_dict()
    path = folder / "faster_rcnn_from_caffe_attr.pkl"
    weights = read_weights(path)
    assert fitted(path, weights, ours).keys() == ours.keys() - {"pixel_mean", "pixel_std"}
    beside = {"proposal_generator.anchor_generator.cell_anchors.0"}
    assert {file_name(name) for name in ours} == weights.keys() - beside
    wrong = {name: value for name, value in weights.items() if "fc_attr" not in name}
    with pytest.raises(ItmkitError, match=r"2 weights are missing: roi_heads\.box_predictor\.fc_attr\.weight"):
        fitted(path, wrong, ours)


def test_layers_that_differ_from_the_stock_model(model: BottomUp, folder: Path) -> None:
    weights = pickle.loads((folder / "faster_rcnn_from_caffe_attr.pkl").read_bytes())["model"]  # noqa: S301  (ours)
    net = model.network
    assert (
        net.roi_heads.box_predictor.attributes.fc_attr.weight.numpy().tolist()[3][:9]
        == weights["roi_heads.box_predictor.fc_attr.weight"][3, :9].tolist()
    )
    stem = net.backbone.stem
    pixels = torch.randn(1, 3, 101, 126)
    with torch.inference_mode():
        before = stem.conv1(pixels).relu()
        pooled = stem(pixels)
        assert before.shape[2:] == (51, 63) and pooled.shape[2:] == (25, 31)
        assert pooled[0, 5, 7, 9] == before[0, 5, 14:17, 18:21].max()  # no padding: windows begin at 2 k
        boxed = net.roi_heads.res5(torch.randn(2, 1024, 14, 14))
    assert boxed.shape == (2, 2048, 14, 14)
    for block in net.roi_heads.res5:
        assert block.conv2.dilation == block.conv2.padding == (2, 2) and block.conv2.stride == (1, 1)
    (anchors,) = net.proposal_generator.anchor_generator.cell_anchors
    sides = (anchors[:, 2:] - anchors[:, :2]).prod(1).sqrt()
    assert sides.tolist() == pytest.approx(sorted([64.0, 128.0, 256.0, 512.0] * 3), rel=1e-5)
    assert len(net.roi_heads.box_predictor(torch.randn(3, 2048))) == 2


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("regressed", [False, True])
def test_regions_of_a_picture(model: BottomUp, regressed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the steps of upstream and torchvision's NMS, one class at a time."""
    monkeypatch.setattr(model, "regressed", regressed)
    image = picture(1)
    (found,) = model.detect(prepared(model, [image]), regions=20)
    width, height = scaled_size(*image.size, shortest=200, longest=330)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))[:, :, ::-1].astype("float32")
    net, heads = model.network, model.network.roi_heads
    with torch.inference_mode():
        batched = net.preprocess_image([{"image": torch.as_tensor(pixels.transpose(2, 0, 1).copy())}])
        maps = net.backbone(batched.tensor)
        proposals, _ = net.proposal_generator(batched, maps, None)
        features = heads._shared_roi_transform([maps["res4"]], [proposals[0].proposal_boxes]).mean(dim=[2, 3])
        outputs = heads.box_predictor(features)
        scores = outputs[0].softmax(1)[:, :-1]
        boxes = proposals[0].proposal_boxes.tensor
        if regressed:
            every = heads.box_predictor.predict_boxes(outputs, proposals)[0].view(len(boxes), 1600, 4)
            boxes = torch.stack([every[n, scores[n].argmax()] for n in range(len(boxes))])
            boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width)
            boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height)
            for threshold in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
                rows = nms(boxes, scores.max(1).values, threshold)
                if len(rows) >= 10:
                    break
            rows, confidence = rows[:20], scores.max(1).values
        else:
            confidence = torch.zeros(len(boxes))
            for k in range(1600):
                kept = nms(boxes, scores[:, k], 0.3)
                confidence[kept] = torch.maximum(confidence[kept], scores[kept, k])
            count = min(20, max(10, int((confidence >= 0.2).sum())))
            rows = confidence.argsort(descending=True, stable=True)[:count]
        layers = heads.box_predictor.attributes
        embedded = layers.cls_embedding(outputs[0][rows].argmax(1))
        joined = torch.cat([features[rows], embedded], 1)
        attributes = layers.attr_score(layers.fc_attr(joined).relu())[:, :400].argmax(1)
    assert len(found) == len(rows) >= 10
    np.testing.assert_allclose(found.scores, confidence[rows].numpy(), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.features, features[rows].numpy(), rtol=1e-3, atol=1e-3)
    scale = np.array([image.width / width, image.height / height] * 2)
    np.testing.assert_allclose(found.boxes, boxes[rows].numpy() * scale, atol=1e-2)
    assert found.tags == [f"thing {k}" for k in scores[rows].argmax(1).tolist()]
    assert found.attributes == [f"kind {k}" for k in attributes.tolist()]


@pytest.mark.usefixtures("small")
def test_a_picture_does_not_depend_on_others(model: BottomUp) -> None:
    images = [picture(1), picture(2, (120, 160)), picture(3)]
    together = model.detect(prepared(model, images), regions=12, batch=3)
    for image, found in zip(images, together, strict=True):
        (alone,) = model.detect(prepared(model, [image]), regions=12, batch=1)
        assert alone.tags == found.tags
        np.testing.assert_allclose(alone.features, found.features, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(alone.boxes, found.boxes, atol=1e-2)


def test_pictures_are_scaled_as_upstream_does() -> None:
    rng = np.random.default_rng(0)
    for width, height in rng.integers(1, 3000, (500, 2)).tolist():
        expected = ResizeShortestEdge.get_output_shape(height, width, 600, 1000)
        if min(expected) > 0:
            assert scaled_size(width, height, shortest=600, longest=1000) == expected[::-1]


# Photographs through the command


@pytest.fixture
def photographs(tmp_path: Path, test_data: Path) -> Workspace:
    work = Workspace(tmp_path / "work")
    files = sorted((test_data / "coco_mini").rglob("*.jpg"))[:3]
    (work.root / "images").mkdir(parents=True)
    records = []
    for number, file in enumerate(files):
        copy = work.root / "images" / file.name
        copy.write_bytes(file.read_bytes())
        facts = picture_facts(copy)
        caption = (Caption(f"{number}#0", "a photograph"),)
        records.append(ImageRecord(str(number), "train", caption, file=f"images/{file.name}", sha256=facts.sha256))
    write_dataset(work.dataset_path, records, kind="pairs", settings={})
    return work


def check_cache(work: Workspace, regions: int, dim: int, capsys: pytest.CaptureFixture[str]) -> CacheReader:
    reader = CacheReader.open(work.cache("regions"))
    boxes, size, count = (reader.read_all(name) for name in ("boxes", "size", "count"))
    features, scores = reader.read_all("features"), reader.read_all("scores")
    assert features.shape == (3, regions, dim) and (count > 0).all()
    for row in range(3):
        own = boxes[row, : count[row]]
        width, height = size[row]
        assert (own >= 0).all() and (own <= [width + 0.01, height + 0.01] * 2).all()
        assert (own[:, 2:] >= own[:, :2]).all() and (np.diff(scores[row, : count[row]]) <= 0).all()
        assert features[row, : count[row]].any(1).all() and not features[row, count[row] :].any()
    capsys.readouterr()
    assert run(cli, ["inspect", str(work.cache("regions")), "--verify"]) == 0
    assert "extract-regions" in capsys.readouterr().out
    return reader


def test_photographs(photographs: Workspace, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["extract-regions", "-w", str(photographs.root), "--backend", "detectron2", "--model", str(folder)]
    command += ["--device", "cpu", "--regions", "20", "--min-regions", "10"]
    assert run(cli, command) == 0
    reader = check_cache(photographs, 20, 2048, capsys)
    assert reader.tables["attributes"][7] == "kind 7" and reader.tables["tags"][7] == "thing 7"
    assert (reader.read_all("attributes")[:, :10] >= 0).all() and reader.read_all("count").min() >= 10
    assert reader.manifest.made_by.settings["selection"] == "original"
    assert run(cli, [*command, "--selection", "regressed"]) == 2
    assert "'original' in the cache, 'regressed' now" in capsys.readouterr().err
    assert run(cli, [*command, "--selection", "regressed", "--force"]) == 0
    check_cache(photographs, 20, 2048, capsys)
    assert run(cli, ["extract-regions", "-w", str(photographs.root)]) == 0
    assert "nothing to do" in capsys.readouterr().out


# Other models of detectron2


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], BottomUpSettings]:
    """A folder with a stock configuration, made to look at small pictures, and random weights for it."""
    made: dict[str, BottomUpSettings] = {}

    def make(kind: str) -> BottomUpSettings:
        if kind not in made:
            folder = tmp_path_factory.mktemp("stock")
            base = model_zoo.get_config_file(STOCK[kind])
            text = f"_BASE_: {base}\nINPUT:\n  MIN_SIZE_TEST: 240\nMODEL:\n  RPN:\n    POST_NMS_TOPK_TEST: 60\n"
            (folder / "config.yaml").write_text(text)
            cfg = read_config(folder / "config.yaml")
            cfg.MODEL.DEVICE = "cpu"
            torch.manual_seed(0)
            state = build_model(cfg).state_dict()
            for name in state:
                if name.endswith("stem.conv1.weight"):
                    state[name] *= 1e-3  # random blocks double the values they are given
                if name.endswith("cls_score.weight"):
                    state[name] *= 20  # sure of something, so that its own inference finds something
            torch.save({"model": state, "iteration": 9}, folder / "model_final.pth")
            made[kind] = BottomUpSettings(folder / "model_final.pth", folder / "config.yaml", None, None, 5)
        return made[kind]

    return make


@pytest.mark.parametrize("kind", STOCK)
def test_stock_models(stock: Callable[[str], BottomUpSettings], kind: str) -> None:
    """The model's own inference, and behind it what it is less sure of."""
    settings = stock(kind)
    model = load_stock(settings)
    assert model.dim == (2048 if kind == "C4" else 1024) and model.names[:2] == ["person", "bicycle"]
    image = picture(4)
    (found,) = model.detect(prepared(model, [image]), regions=30)
    assert found.features.shape == (len(found), model.dim) and found.attributes is None

    cfg = read_config(settings.config)  # type: ignore[arg-type]
    cfg.MODEL.DEVICE, cfg.MODEL.MASK_ON, cfg.TEST.DETECTIONS_PER_IMAGE = "cpu", False, 30
    upstream = build_model(cfg).eval()
    upstream.load_state_dict(torch.load(settings.weights)["model"], strict=False)
    width, height = scaled_size(*image.size, shortest=240, longest=1333)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))[:, :, ::-1].astype("float32")
    tensor = torch.as_tensor(pixels.transpose(2, 0, 1).copy())
    with torch.inference_mode():
        expected = upstream([{"image": tensor, "width": image.width, "height": image.height}])[0]["instances"]
    assert len(expected) > 0 and len(found) == max(len(expected), 5)
    np.testing.assert_allclose(found.scores[: len(expected)], expected.scores.numpy(), rtol=1e-3)
    np.testing.assert_allclose(found.boxes[: len(expected)], expected.pred_boxes.tensor.numpy(), atol=0.02)
    assert found.tags[: len(expected)] == [model.names[k] for k in expected.pred_classes.tolist()]


@pytest.mark.parametrize("kind", ["C4", "FPN"])
def test_photographs_with_a_stock_model(
    photographs: Workspace,
    stock: Callable[[str], BottomUpSettings],
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = stock(kind).weights.parent
    command = ["extract-regions", "-w", str(photographs.root), "--backend", "detectron2", "--model", str(folder)]
    assert run(cli, [*command, "--device", "cpu", "--regions", "12"]) == 0
    reader = check_cache(photographs, 12, 2048 if kind == "C4" else 1024, capsys)
    assert reader.tables["tags"][0] == "person" and "red" in reader.tables["attributes"]
    assert (reader.read_all("count") == 12).all()


def test_wrong_configurations(stock: Callable[[str], BottomUpSettings], tmp_path: Path) -> None:
    good = stock("FPN")
    path = tmp_path / "config.yaml"

    def load(text: str, vocabulary: Path | None = None) -> Stock:
        path.write_text(text)
        return load_stock(BottomUpSettings(good.weights, path, vocabulary, None, 5))

    made = tmp_path / "made"
    for text, said in (
        (f"MODEL: !!python/object/apply:os.mkdir [{made}]", "cannot be read"),
        ("_BASE_: https://example.org/base.yaml", "no local file"),
        ("_BASE_: missing.yaml", "cannot be read"),
        ("MODEL:\n  NO_SUCH_THING: 3", "NO_SUCH_THING"),
        (f"_BASE_: {model_zoo.get_config_file('COCO-Detection/rpn_R_50_FPN_1x.yaml')}", "has no box head"),
        # Upstream's own RetinaNet computes its anchors by `eval` in the YAML: refused like any other code.
        (f"_BASE_: {model_zoo.get_config_file('COCO-Detection/retinanet_R_50_FPN_1x.yaml')}", "cannot be read"),
        (f"_BASE_: {good.config}\nMODEL:\n  ROI_HEADS:\n    NUM_CLASSES: 7", "no names of its 7 classes"),
        (f"_BASE_: {good.config}\nMODEL:\n  RESNETS:\n    DEPTH: 101", "weights are missing"),
    ):
        with pytest.raises(ItmkitError, match=said) as caught:
            load(text)
        assert "config.yaml" in str(caught.value) or "model_final.pth" in str(caught.value)
    assert not made.exists()
    (tmp_path / "objects_vocab.txt").write_text("one\ntwo\n")
    with pytest.raises(ItmkitError, match="has 2 lines, the model has 80"):
        load(f"_BASE_: {good.config}", tmp_path)
