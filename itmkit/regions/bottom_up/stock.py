"""Any other R-CNN of detectron2: a configuration and weights.

Its own inference says which boxes there are. A region's feature is what the model's box head makes of the predicted
box: the mean over res5 for C4 models, the output of the last box head for others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itmkit.errors import ItmkitError, first_line
from itmkit.files import digest, sha256_file
from itmkit.regions.bottom_up.backend import load_weights
from itmkit.regions.bottom_up.network import require_detectron2
from itmkit.regions.bottom_up.pictures import channels_first, scaled_size
from itmkit.regions.bottom_up.settings import BottomUpSettings
from itmkit.regions.regions import ModelInput, Regions, equal_shapes
from itmkit.regions.vg_vocabulary import OBJECTS, read_names

if TYPE_CHECKING:
    import torch
    from PIL import Image


@dataclass
class Stock:
    """A loaded model.

    Attributes:
        sha256: digest of the weight file; settings_sha256: of the whole configuration and the class names.
        names: C class names. dim: D, the width of a feature.
        keep: the score above which the configuration calls a box a detection; min_regions: kept whatever their score.
        shortest, longest: pixels of the scaled picture's sides. order: of the colours, BGR or RGB.
    """

    sha256: str
    settings_sha256: str
    names: list[str]
    dim: int
    network: Any
    keep: float
    min_regions: int
    shortest: int
    longest: int
    order: str
    device: torch.device
    attribute_names: list[str] | None = None
    square: None = None

    def prepare(self, image: Image.Image) -> ModelInput:
        """(3, h, w) float32, scaled as the configuration says."""
        size = scaled_size(*image.size, shortest=self.shortest, longest=self.longest)
        return ModelInput(channels_first(image, size, order=self.order), image.size)

    def detect(
        self,
        prepared: Sequence[ModelInput],
        *,
        regions: int = 36,
        labels: Sequence[str] | None = None,
        batch: int = 2,
    ) -> list[Regions]:
        """The boxes of each picture, best first; see `BottomUp.detect`. A region's score is that of its class."""
        import torch

        found: dict[int, Regions] = {}
        with torch.inference_mode():
            for members in equal_shapes([one.inputs.shape for one in prepared], batch):
                pixels = [torch.from_numpy(prepared[n].inputs).to(self.device) for n in members]
                maps, detected = self._run(pixels, regions)
                for at, number in enumerate(members):
                    own = {name: one[at : at + 1] for name, one in maps.items()}
                    label = labels[number] if labels else f"picture {number}"
                    found[number] = self._regions(own, detected[at], prepared[number].size, regions, label)
        return [found[number] for number in range(len(prepared))]

    def _run(self, pixels: list[torch.Tensor], regions: int) -> tuple[dict[str, torch.Tensor], list[Any]]:
        """Feature maps and the model's own detections, including those with low scores."""
        network = self.network
        for part in network.roi_heads.modules():
            if hasattr(part, "test_topk_per_image"):
                # Worse boxes never suppress better ones: the extra ones only follow the usual detections.
                part.test_score_thresh, part.test_topk_per_image = 0.0, regions
        batched = network.preprocess_image([{"image": one} for one in pixels])
        maps = network.backbone(batched.tensor)
        proposals, _ = network.proposal_generator(batched, maps, None)
        detected, _ = network.roi_heads(batched, maps, proposals, None)
        return maps, detected

    def _regions(
        self, maps: dict[str, torch.Tensor], detected: Any, size: tuple[int, int], regions: int, label: str
    ) -> Regions:
        import torch

        good = int((detected.scores > self.keep).sum())
        detected = detected[: max(good, min(self.min_regions, regions))]
        features = box_features(self.network.roi_heads, maps, detected.pred_boxes)
        if not bool(torch.isfinite(features).all()):
            raise ItmkitError(f"{label}: the model gives features that are not finite (NaN or infinite)")
        height, width = detected.image_size
        return Regions(
            boxes=detected.pred_boxes.tensor.float().cpu().numpy()
            * (np.array(size * 2, np.float32) / np.array([width, height] * 2, np.float32)),
            scores=detected.scores.float().cpu().numpy(),
            features=features.float().cpu().numpy(),
            tags=[self.names[number] for number in detected.pred_classes.tolist()],
        )


def box_features(heads: Any, maps: dict[str, torch.Tensor], boxes: Any) -> torch.Tensor:
    """(n, D) what the box head of `heads` makes of n boxes of one picture."""
    from torch import nn

    if hasattr(heads, "_shared_roi_transform"):  # C4
        found = heads._shared_roi_transform([maps[name] for name in heads.in_features], [boxes])
    else:
        pooled = heads.box_pooler([maps[name] for name in heads.box_in_features], [boxes])
        head = heads.box_head[-1] if isinstance(heads.box_head, nn.ModuleList) else heads.box_head  # a cascade's last
        found = head(pooled)
    return found.mean(dim=(2, 3)) if found.ndim == 4 else found


def load_stock(settings: BottomUpSettings, *, device: str | torch.device = "cpu") -> Stock:
    """Loads a model in float32 from its configuration.

    Raises:
        ItmkitError: detectron2 cannot be imported, the configuration or the weights are wrong, the model has no box
            head, or its classes have no names.
    """
    import torch
    from PIL import Image

    require_detectron2()
    from detectron2.modeling import build_model

    assert settings.config is not None
    cfg = read_config(settings.config)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = cfg.OUTPUT_DIR = ""
    names = _class_names(cfg, settings)
    try:
        network = build_model(cfg)
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ItmkitError(f"{settings.config}: no model can be built from it ({first_line(error)})") from error
    heads: Any = getattr(network, "roi_heads", None)
    if not hasattr(network, "proposal_generator") or not (
        hasattr(heads, "_shared_roi_transform") or hasattr(heads, "box_pooler")
    ):
        raise ItmkitError(
            f"{settings.config}: {cfg.MODEL.META_ARCHITECTURE} has no box head, which gives the features; a Faster,"
            " Mask or Cascade R-CNN is needed"
        )
    load_weights(network, settings)
    heads.mask_on = heads.keypoint_on = False  # nobody asks for them here
    network.to(device)
    stock = Stock(
        sha256=sha256_file(settings.weights),
        settings_sha256=digest({"config": cfg.dump(), "names": names}),
        names=names,
        dim=0,
        network=network,
        keep=float(cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST),
        min_regions=settings.min_regions,
        shortest=int(cfg.INPUT.MIN_SIZE_TEST),
        longest=int(cfg.INPUT.MAX_SIZE_TEST),
        order=str(cfg.INPUT.FORMAT),
        device=torch.device(device),
    )
    grey = Image.new("RGB", (96, 64), (128, 128, 128))
    try:
        stock.dim = stock.detect([stock.prepare(grey)], regions=1)[0].features.shape[1]
    except (AttributeError, RuntimeError, TypeError, ValueError, IndexError) as error:
        raise ItmkitError(f"{settings.config}: the model gives no features of boxes ({first_line(error)})") from error
    return stock


def read_config(path: Path) -> Any:
    """A detectron2 configuration, with those it is based on, from local files and without running anything.

    Raises:
        ItmkitError: a file is missing, is no YAML of plain values, or has settings that detectron2 does not know.
    """
    import yaml
    from detectron2.config import CfgNode, get_cfg

    class LocalConfig(CfgNode):  # type: ignore[misc]
        @classmethod
        def _open_cfg(cls, filename: str) -> Any:
            if "://" in filename:  # detectron2 would fetch it
                raise ItmkitError(f"{path}: is based on {filename}, which is no local file")
            return open(filename, encoding="utf-8")

    cfg = LocalConfig(get_cfg())
    try:
        cfg.merge_from_file(str(path), allow_unsafe=False)
    except (OSError, yaml.YAMLError, AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ItmkitError(f"{path}: cannot be read as a configuration of detectron2 ({first_line(error)})") from None
    return cfg


def _class_names(cfg: Any, settings: BottomUpSettings) -> list[str]:
    """From the vocabulary the user gave, else from what detectron2 knows of the data set in the configuration."""
    from detectron2.data import MetadataCatalog

    count = int(cfg.MODEL.ROI_HEADS.NUM_CLASSES)
    if settings.vocabulary is not None:
        return read_names(settings.vocabulary / OBJECTS, count)
    for dataset in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        names = MetadataCatalog.get(dataset).get("thing_classes") if dataset in MetadataCatalog else None
        if names and len(names) == count:
            return [str(name) for name in names]
    raise ItmkitError(
        f"{settings.config}: detectron2 knows no names of its {count} classes; give --vocabulary, a folder with"
        f" {OBJECTS} that has a line for each"
    )
