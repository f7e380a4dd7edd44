"""The detector backend: tiny random models of several families, and the detector that ships for the scenes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForObjectDetection,
    ConditionalDetrConfig,
    ConditionalDetrForObjectDetection,
    DeformableDetrConfig,
    DeformableDetrForObjectDetection,
    DeformableDetrImageProcessorPil,
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessorPil,
    LwDetrConfig,
    LwDetrForObjectDetection,
    LwDetrViTConfig,
    ResNetConfig,
    RfDetrConfig,
    RfDetrDinov2Config,
    RfDetrForObjectDetection,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrImageProcessorPil,
    RTDetrResNetConfig,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessorPil,
)

from itmkit.errors import ItmkitError
from itmkit.regions.best import Boxes, best_regions
from itmkit.regions.detector import SCENES_DETECTOR, Detector, load_detector
from itmkit.scenes.render import render
from itmkit.scenes.world import KINDS, sample_scene
from tests.built import built_once, loaded_once
from tests.regions.tiny_models import prepared

CLASSES = {"num_labels": 5, "id2label": {0: "cat", 1: "dog", 2: "car", 3: "cup", 4: "tree"}}
SMALL = {"shortest_edge": 64, "longest_edge": 96}


def backbone() -> ResNetConfig:
    return ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip


def family() -> dict[str, object]:
    return {
        "d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, **CLASSES,
    }  # fmt: skip


@built_once
def build(kind: str, folder: Path) -> Path:
    """Saves a tiny model of a family with random weights."""
    torch.manual_seed(3)
    model: torch.nn.Module
    processor: object = DetrImageProcessorPil(size=SMALL)
    if kind == "detr":
        model = DetrForObjectDetection(
            DetrConfig(use_timm_backbone=False, backbone_config=backbone(), num_queries=9, **family())
        )
    elif kind == "conditional_detr":
        model = ConditionalDetrForObjectDetection(
            ConditionalDetrConfig(use_timm_backbone=False, backbone_config=backbone(), num_queries=9, **family())
        )
    elif kind == "deformable_detr":
        model = DeformableDetrForObjectDetection(
            DeformableDetrConfig(
                use_timm_backbone=False, backbone_config=backbone(), num_queries=9, num_feature_levels=3, **family()
            )
        )
    elif kind == "rt_detr":
        stem = RTDetrResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16, 16], depths=[1, 1, 1], layer_type="basic", out_indices=[2, 3]
        )
        model = RTDetrForObjectDetection(
            RTDetrConfig(
                backbone_config=stem, encoder_in_channels=[16, 16], feat_strides=[8, 16], encode_proj_layers=[1],
                encoder_hidden_dim=32, decoder_in_channels=[32, 32], num_feature_levels=2, num_queries=9,
                num_denoising=0, **family(),
            )
        )  # fmt: skip
        processor = RTDetrImageProcessorPil(size={"height": 64, "width": 64})
    elif kind == "lw_detr":
        model = LwDetrForObjectDetection(
            LwDetrConfig(
                backbone_config=LwDetrViTConfig(
                    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=64,
                    pretrain_image_size=64, num_windows=4, window_block_indices=[0], out_indices=[1, 2],
                    use_absolute_position_embeddings=True,
                ),
                d_model=32, num_queries=9, decoder_layers=1, decoder_ffn_dim=32, decoder_self_attention_heads=2,
                decoder_cross_attention_heads=2, group_detr=2, projector_scale_factors=[1.0], num_feature_levels=1,
                **CLASSES,
            )
        )  # fmt: skip
        processor = DeformableDetrImageProcessorPil(size={"height": 64, "width": 64})
    elif kind == "rf_detr":
        model = RfDetrForObjectDetection(
            RfDetrConfig(
                backbone_config=RfDetrDinov2Config(
                    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=56, num_windows=2,
                    window_block_indexes=[0], out_indices=[1, 2],
                ),
                d_model=32, num_queries=9, decoder_layers=1, decoder_ffn_dim=32, decoder_self_attention_heads=2,
                decoder_cross_attention_heads=2, group_detr=2, **CLASSES,
            )
        )  # fmt: skip
        processor = None
    else:
        model = YolosForObjectDetection(
            YolosConfig(
                hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=[64, 64],
                num_detection_tokens=9, **CLASSES,
            )
        )  # fmt: skip
        processor = YolosImageProcessorPil(size=SMALL)
    # random heads of some size, so that queries differ
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(folder)  # type: ignore[operator]
    if processor is None:
        settings = {"image_processor_type": "RfDetrImageProcessor", "size": {"height": 56, "width": 56}}
        (folder / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    else:
        processor.save_pretrained(folder)  # type: ignore[attr-defined]
    return folder


detectors = loaded_once(build, load_detector)  # of each family, not to be changed


def pictures(*sizes: tuple[int, int]) -> list[Image.Image]:
    rng = np.random.default_rng(5)
    return [Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)) for width, height in sizes]


FAMILIES = ["detr", "conditional_detr", "deformable_detr", "rt_detr", "yolos", "lw_detr", "rf_detr"]
SIZES = [(80, 60), (60, 80), (200, 90), (80, 60), (33, 35)]


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_gives_boxes_tags_and_states(kind: str) -> None:
    detector = detectors(kind)
    assert (detector.queries, detector.dim) == (9, 32)
    assert detector.names == ["cat", "dog", "car", "cup", "tree"]
    images = pictures(*SIZES)
    for image, found in zip(images, detector.detect(prepared(detector, images), regions=6), strict=True):
        assert found.boxes.shape == (6, 4) and found.boxes.dtype == np.float32
        assert found.features.shape == (6, 32) and found.features.dtype == np.float32
        assert (found.boxes >= 0).all() and (found.boxes <= [*image.size, *image.size]).all()
        assert (found.boxes[:, 2:] >= found.boxes[:, :2]).all()
        assert (np.diff(found.scores) <= 0).all() and (found.scores > 0).all()
        assert len(found.tags) == 6 and set(found.tags) <= set(detector.names)
    assert len(detector.detect(prepared(detector, images[:1]), regions=36)[0]) == 9  # no more than the model has


@pytest.mark.parametrize("kind", FAMILIES)
def test_regions_do_not_depend_on_the_other_pictures(kind: str) -> None:
    detector = detectors(kind)
    images = pictures(*SIZES)
    together = detector.detect(prepared(detector, images), regions=9, batch=3)
    for image, found in zip(images, together, strict=True):
        alone = detector.detect(prepared(detector, [image]), regions=9)[0]
        assert found.tags == alone.tags
        for name, scale in (("boxes", max(image.size)), ("scores", 1), ("features", 1)):
            ours, theirs = getattr(found, name), getattr(alone, name)
            np.testing.assert_allclose(ours / scale, theirs / scale, atol=1e-4, err_msg=name)


def pixels(kind: str, image: Image.Image) -> torch.Tensor:
    """A picture as the settings of the tiny models have it, by hand.

    The shorter side to 64 pixels, or the longer one to 96 where it would be longer; or a square. RT-DETR was trained
    without means and deviations, RF-DETR with pictures that are not smoothed.
    """
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    if kind == "rf_detr":
        values = torch.from_numpy(np.asarray(image) / 255).permute(2, 0, 1)[None]
        small = torch.nn.functional.interpolate(values, (56, 56), mode="bilinear", align_corners=False)
        return ((small - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]).float()
    scale = min(64 / min(image.size), 96 / max(image.size))
    square = kind in ("rt_detr", "lw_detr")
    size = (64, 64) if square else (round(image.width * scale), round(image.height * scale))
    found = np.asarray(image.resize(size, Image.Resampling.BILINEAR)) / 255
    found = found if kind == "rt_detr" else (found - mean) / std
    return torch.tensor(found, dtype=torch.float32).permute(2, 0, 1)[None]


@pytest.mark.parametrize("kind", FAMILIES)
def test_regions_are_those_of_a_literal_call(kind: str, tmp_path: Path) -> None:
    detector = detectors(kind)
    model = AutoModelForObjectDetection.from_pretrained(build(kind, tmp_path)).eval()
    for image in pictures((48, 32), (64, 128)):  # YOLOS wants multiples of 16: 96 x 64 and 48 x 96
        (found,) = detector.detect(prepared(detector, [image]), regions=9)
        with torch.inference_mode():
            output = model(pixel_values=pixels(kind, image))
        compete = kind in ("detr", "yolos")  # with "no object", which is the last of their classes
        chances = output.logits[0].softmax(-1)[:, :-1] if compete else output.logits[0].sigmoid()
        scores, classes = chances.max(-1)
        order = scores.argsort(descending=True)
        np.testing.assert_allclose(found.scores, scores[order], atol=1e-5)
        assert found.tags == [detector.names[number] for number in classes[order]]
        x, y, w, h = output.pred_boxes[0][order].numpy().T * np.tile(image.size, 2)[:, None]
        corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1).clip(0, np.tile(image.size, 2))
        np.testing.assert_allclose(found.boxes, corners, atol=1e-2)
        np.testing.assert_allclose(found.features, output.last_hidden_state[0, -9:][order], atol=1e-4)


def kept(scores: list[list[float]], boxes: list[list[float]], most: int = 36, nms: float | None = None) -> list[int]:
    """The numbers of the queries kept, in order; the vector of a query is its number."""
    numbers, by_class = np.arange(len(scores), dtype=np.float32)[:, None], np.array(scores, np.float32)
    queries = Boxes(by_class.max(1), by_class.argmax(1), np.array(boxes, np.float32), numbers)
    found = best_regions(queries, (100, 50), ["a", "b"], most=most, nms=nms)
    return [int(number) for number in found.features[:, 0]]


def test_order_ties_and_duplicates() -> None:
    scores = [[0.2, 0.5], [0.9, 0.1], [0.5, 0.3], [0.5, 0.5]]
    boxes = [[0.5, 0.5, 0.2, 0.2], [0.2, 0.2, 0.2, 0.2], [0.21, 0.2, 0.2, 0.2], [0.8, 0.8, 0.6, 0.6]]
    assert kept(scores, boxes) == [1, 0, 2, 3]  # equal scores: lower query number first
    assert kept(scores, boxes, most=2) == [1, 0]
    assert kept(scores, boxes, nms=0.5) == [1, 0, 3]  # 2 lies on 1
    assert kept(scores, boxes, nms=0.5, most=2) == [1, 0]
    assert kept(scores, boxes, nms=1.0) == [1, 0, 2, 3]


def test_features_that_are_not_numbers_name_the_picture(tmp_path: Path) -> None:
    folder = build("rt_detr", tmp_path)
    detector = load_detector(folder)
    detector.model.model.decoder.layers[-1].final_layer_norm.bias.data[0] = float("nan")
    with pytest.raises(ItmkitError, match=r"img/7\.jpg: the detector .* not finite"):
        detector.detect(prepared(detector, pictures((40, 40))), labels=["img/7.jpg"])


def test_the_digest_is_that_of_the_weights(tmp_path: Path) -> None:
    folder = build("yolos", tmp_path)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert load_detector(folder).sha256 == digest
    model = YolosForObjectDetection.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="15KB")
    assert (folder / "model.safetensors.index.json").exists()
    assert load_detector(folder).sha256 not in ("", digest)


def problem(model: object, **options: bool) -> str:
    with pytest.raises(ItmkitError) as caught:
        load_detector(model, **options)  # type: ignore[arg-type]
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


def test_a_model_that_cannot_be_had_says_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("nobody/no-such-detector", "nobody/no-such-detector@no_timm"):
        message = problem(name)
        assert all(way in message for way in ("path of a folder", "--download", "--backend grid", "import-features"))
    assert "no such folder" in problem(tmp_path / "missing")
    assert "no such folder" in problem("../missing")
    assert "is a file" in problem(__file__)


def test_models_that_are_refused(tmp_path: Path) -> None:
    assert "no config.json" in problem(tmp_path)
    folder = build("rt_detr", tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "pickle" in problem(folder)
    (folder / "pytorch_model.bin").unlink()
    assert "no model.safetensors" in problem(folder)
    headless = {name: value for name, value in weights.items() if "class_embed" not in name}
    save_file(headless, folder / "model.safetensors", {"format": "pt"})
    assert "do not fit" in problem(folder) and "class_embed" in problem(folder)
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    assert "no object-detection model that transformers can load" in problem(folder)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "preprocessor_config.json").rename(folder / "elsewhere.json")
    assert "preprocessor_config.json" in problem(folder)


def test_a_backbone_from_timm_is_explained(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    try:
        import timm  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        folder = build("detr", tmp_path)
        (folder / "config.json").write_text('{"model_type": "detr", "use_timm_backbone": true, "backbone": "resnet50"}')
        assert "@no_timm" in problem(folder)


@pytest.fixture(scope="module")
def scenes_detector() -> Detector:
    return load_detector(SCENES_DETECTOR)


def test_the_shipped_detector_is_small_and_knows_the_kinds(scenes_detector: Detector) -> None:
    assert scenes_detector.names == list(KINDS)
    assert scenes_detector.queries >= 36
    assert sum(file.stat().st_size for file in SCENES_DETECTOR.iterdir()) < 12_000_000


def test_the_shipped_detector_finds_what_is_in_a_scene(scenes_detector: Detector) -> None:
    scenes, pictures = [], []
    for number in range(25):
        rng = np.random.default_rng([7, 1, 1, number])
        scenes.append(sample_scene(rng))
        pictures.append(render(scenes[-1], rng))
    located, named = [], []
    every = scenes_detector.detect(prepared(scenes_detector, [picture.image for picture in pictures]), regions=12)
    for scene, picture, found in zip(scenes, pictures, every, strict=True):
        low = np.maximum(found.boxes[:, None, :2], picture.boxes[None, :, :2])
        high = np.minimum(found.boxes[:, None, 2:], picture.boxes[None, :, 2:])
        both = (high - low).clip(0).prod(2)
        areas = [(b[:, 2:] - b[:, :2]).prod(1) for b in (found.boxes, picture.boxes)]
        close = both / (areas[0][:, None] + areas[1][None] - both) >= 0.5
        right = np.array(found.tags)[:, None] == np.array([thing.kind for thing in scene.objects])[None]
        located.extend(close.any(0))
        named.extend((close & right).any(0))
    assert np.mean(located) > 0.94
    assert np.mean(named) > 0.88


EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.skipif(not (EXAMPLES / "train_detector.py").exists(), reason="the examples are not part of the package")
def test_a_killed_training_continues_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import train_detector  # type: ignore[import-not-found]

    monkeypatch.setattr(train_detector, "measure", lambda *_: {})
    monkeypatch.setattr(train_detector, "probe", lambda *_: {})

    def train(name: str) -> bytes:
        options = ["--out", str(tmp_path / name), "--work", str(tmp_path / f"{name}-work")]
        monkeypatch.setattr("sys.argv", ["train_detector.py", "--steps", "2", "--batch", "1", "--every", "1", *options])
        with monkeypatch.context() as patch:  # it would read back what it measures
            patch.setattr(train_detector.RTDetrForObjectDetection, "from_pretrained", lambda folder: None)
            train_detector.main()
        return (tmp_path / name / "model.safetensors").read_bytes()

    undisturbed = train("whole")
    loss, calls = train_detector.Trainee.loss, []

    def dying(*args: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return loss(*args)

    monkeypatch.setattr(train_detector.Trainee, "loss", dying)
    with pytest.raises(KeyboardInterrupt):
        train("killed")
    monkeypatch.setattr(train_detector.Trainee, "loss", loss)
    assert train("killed") == undisturbed
    assert load_detector(tmp_path / "killed").names == list(KINDS)
