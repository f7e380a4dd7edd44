"""Regions without a detector: fixed windows of several scales over the feature map of any vision model.

The picture, squashed to a square, goes through the model once. Each window's feature is the mean of the map over the
window. Where the model is a classifier, its head says for each window what it most likely shows.
Shapes: B pictures, C channels, S x S cells of the map, R windows, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itmkit.errors import ItmkitError, first_line
from itmkit.machine.device import Precision, half
from itmkit.models.hub import find_model, quiet_transformers, weights_sha256
from itmkit.models.look import check_probes, probes
from itmkit.models.masked import see_whole_pictures
from itmkit.models.pixels import Scaling, first_side, picture_settings, scaling
from itmkit.pictures.decode import Square, squash
from itmkit.regions.regions import ModelInput, Regions
from itmkit.regions.tokens import first_patch
from itmkit.regions.windows import pooling_weights, windows
from itmkit.typed import model_json

if TYPE_CHECKING:
    import torch
    from PIL import Image

WAYS_OUT = "Any vision model of transformers will do (MobileNetV2, ResNet, ViT, ...)."


@dataclass
class Grid:
    """A loaded vision model.

    Attributes:
        model_id: what the user named; sha256: digest of the weights.
        dim: C, the width of a feature; side: S, cells of the map along an edge; size: pixels of the model's input.
        names: K class names; empty where the model is no classifier.
        patches: which of a transformer's tokens are its patches; None for a map.
        precision: of the model's products; windows are always pooled and classified in float32.
    """

    model_id: str
    sha256: str
    dim: int
    side: int
    size: int
    names: list[str]
    body: Any
    head: Callable[[Any], Any] | None
    scaling: Scaling
    device: torch.device
    patches: slice | None = None
    precision: Precision = "float32"
    attribute_names: None = None

    def detect(
        self,
        prepared: Sequence[ModelInput],
        *,
        regions: int = 36,
        labels: Sequence[str] | None = None,
        batch: int = 8,
    ) -> list[Regions]:
        """The windows of each picture, in the order of `windows(regions)`.

        Args:
            prepared: upright RGB pictures of any sizes through `prepare`; labels: their names, for error messages.
            batch: the most pictures to run at once.

        Returns:
            For each picture: boxes (R, 4) in its pixels; features (R, C); scores (R,): the probability of the best
            class, 1 where the model is no classifier; tags: that class, "" where there is none.
        """
        import torch

        boxes = windows(regions)
        weights = torch.from_numpy(pooling_weights(boxes, self.side)).to(self.device)
        found = []
        for start in range(0, len(prepared), batch):
            part = prepared[start : start + batch]
            with torch.inference_mode():
                pixels = self.scaling.normalised([one.inputs for one in part], self.device)
                with half(self.device, self.precision):
                    cells = feature_map(self.body, pixels, self.patches)
                pooled = weights @ cells  # (B, R, C)
                scores, best = self._classify(pooled)
            features = pooled.cpu().numpy()
            for at, one in enumerate(part):
                if not (np.isfinite(features[at]).all() and np.isfinite(scores[at]).all()):
                    name = labels[start + at] if labels else f"picture {start + at}"
                    raise ItmkitError(f"{name}: the model {self.model_id} gives features that are not finite")
                found.append(
                    Regions(
                        boxes=(boxes * np.array(one.size * 2)).astype(np.float32),
                        scores=scores[at],
                        features=features[at],
                        tags=[self.names[k] for k in best[at]] if self.names else [""] * regions,
                    )
                )
        return found

    @property
    def square(self) -> Square:
        return Square(self.size, self.scaling.resample)

    def prepare(self, image: Image.Image) -> ModelInput:
        """(size, size, 3) uint8 of an upright RGB picture."""
        return ModelInput(np.asarray(squash(image, self.square)), image.size)

    def _classify(self, pooled: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Probability and number of the best class of each window: (B, R) float32, (B, R)."""
        if self.head is None:
            ones = np.ones(tuple(pooled.shape[:2]), np.float32)
            return ones, np.zeros(ones.shape, np.int64)
        logits = self.head(pooled.reshape(-1, pooled.shape[-1])).float()
        best = logits.softmax(-1).max(-1)
        shape = tuple(pooled.shape[:2])
        return best.values.cpu().numpy().reshape(shape), best.indices.cpu().numpy().reshape(shape)


def feature_map(body: Any, pixels: torch.Tensor, patches: slice | None) -> torch.Tensor:
    """(B, S * S, C): the last map of a convolutional model, or those tokens of a transformer that are its patches."""
    states = body(pixel_values=pixels).last_hidden_state
    if states.ndim == 4:
        return states.flatten(2).transpose(1, 2).float()
    return states[:, patches].float() if patches is not None else states.float()


def _patches(grid: Grid, tokens: int, patch: int) -> slice:
    """Where a transformer's patches are among its tokens.

    Raises:
        ValueError: they are not to be told from other tokens.
    """
    count = (grid.size // patch) ** 2 if patch else 0
    if patch and tokens >= count:
        first = first_patch(grid.body, grid.size, patch, tokens, grid.device, {})
        return slice(first, first + count)
    # It merges patches, as Swin and Hiera do. At most one token, for the whole picture, stands before what they become.
    extra = tokens - int(tokens**0.5) ** 2
    if extra > 1 or grid.body.config.model_type.startswith("groupvit"):
        raise ValueError(f"{tokens} tokens are no square of patches")
    return slice(extra, tokens)


def load_grid(
    model: str | Path,
    *,
    size: int | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    allow_download: bool = False,
) -> Grid:
    """Loads a vision model.

    Args:
        model: a folder with config.json, preprocessor_config.json and model.safetensors, or a hub name.
        size: pixels a picture is squashed to. Default: the model's own for transformers (their positions are of a
            fixed size), twice the model's own for convolutional models, so that small windows are more than a cell.

    Raises:
        ItmkitError: the model cannot be loaded, or gives no feature map. The message says what to do.
    """
    import torch

    folder = find_model(str(model), allow_download=allow_download, ways_out=WAYS_OUT)
    config = model_json(folder / "config.json")
    architectures = config.get("architectures")
    named = architectures if isinstance(architectures, list) else []
    classifier = any(str(name).endswith("ForImageClassification") for name in named)
    network = _loaded(model, folder, classifier=classifier)
    network.eval().requires_grad_(False).to(device)
    see_whole_pictures(network)
    body = network.base_model if classifier else getattr(network, "vision_model", network)
    settings = picture_settings(folder, str(model))
    inner = config.get("vision_config")
    vision = inner if inner and isinstance(inner, dict) else config
    own = first_side([vision.get("image_size"), settings.get("crop_size"), settings.get("size")])
    grid = Grid(
        model_id=str(model),
        sha256=weights_sha256(folder),
        dim=0,
        side=0,
        size=size or own,
        names=[],
        body=body,
        head=None,
        scaling=scaling(settings),
        device=torch.device(device),
        precision=precision,
    )
    patch = first_side([vision.get("patch_size")], default=0)
    _measure(grid, network if classifier else None, patch, doubled=size is None)
    return grid


def _loaded(model: str | Path, folder: Path, *, classifier: bool) -> Any:
    """The network as transformers loads it, with all weights of its map and of its classifier."""
    import torch
    from transformers import AutoModel, AutoModelForImageClassification

    loader = AutoModelForImageClassification if classifier else AutoModel
    with quiet_transformers():
        try:
            network, report = loader.from_pretrained(
                folder,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=False,
            )
        except Exception as error:  # transformers and its tokenisers raise dozens of kinds
            raise ItmkitError(
                f"{model}: is no vision model that transformers can load ({first_line(error)})"
            ) from error
    lacking = [name for name in report["missing_keys"] if "num_batches_tracked" not in name and "pooler" not in name]
    if lacking or report.get("mismatched_keys"):
        raise ItmkitError(
            f"{model}: the weights do not fit the model ({', '.join(sorted(map(str, lacking))[:3])} missing)"
        )
    return network


def _measure(grid: Grid, classifier: Any, patch: int, *, doubled: bool) -> None:
    """Runs one grey picture: learns S and C, finds the head, and fails now rather than in the middle of a data set."""
    import torch

    try:
        pixels = torch.full((1, 3, grid.size, grid.size), 0.1, device=grid.device)
        with torch.inference_mode():
            states = grid.body(pixel_values=pixels).last_hidden_state
            if states.ndim == 4 and doubled:
                grid.size *= 2
                pixels = torch.full((1, 3, grid.size, grid.size), 0.1, device=grid.device)
            elif states.ndim == 3:
                grid.patches = _patches(grid, states.shape[1], patch)
            cells = feature_map(grid.body, pixels, grid.patches)
            grid.side, grid.dim = int(cells.shape[1] ** 0.5), cells.shape[2]
            if grid.side**2 != cells.shape[1]:
                raise ValueError(f"a map of {cells.shape[1]} cells is no square")
            if classifier is not None:
                grid.head = _head(grid, classifier, cells, classifier(pixel_values=pixels).logits)
            with half(grid.device, grid.precision):  # not every layer of every model can
                feature_map(grid.body, pixels, grid.patches)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ItmkitError(
            f"{grid.model_id}: gives no feature map of a {grid.size} x {grid.size} picture ({first_line(error)})"
        ) from error
    if grid.head is not None:
        labels = classifier.config.id2label
        # ImageNet names a class by all its synonyms: "tench, Tinca tinca"
        grid.names = [
            str(labels.get(k, f"class {k}")).split(",")[0].strip() for k in range(classifier.config.num_labels)
        ]
    prepared = [grid.prepare(image) for image in probes()]
    named = ["a slope of colours", "a picture of noise"]
    answers = [[one.features for one in grid.detect(prepared, regions=1, labels=named)] for _ in range(2)]
    check_probes(grid.model_id, *map(np.stack, answers))


def _head(grid: Grid, classifier: Any, cells: torch.Tensor, logits: torch.Tensor) -> Callable[[Any], Any] | None:
    """The function from mean features (n, C) to class scores (n, K) that reproduces the model's scores of a picture.

    A transformer reads its class from a token of its own. There the head is applied to means of patches unchanged.
    """
    linear = next((getattr(classifier, name) for name in ("classifier", "head") if hasattr(classifier, name)), None)
    if linear is None:
        return None
    mean = cells.mean(1)
    ways: list[Callable[[Any], Any]] = [linear]
    for name in ("layernorm", "norm"):
        if norm := getattr(grid.body, name, None):
            ways.append(partial(_both, norm, linear))
    usable = []
    for way in ways:
        try:
            found = way(mean)
        except (RuntimeError, TypeError, ValueError):
            continue
        if found.shape == logits.shape:
            if bool(((found - logits).abs() <= 1e-3 * (1 + logits.abs())).all()):
                return way
            usable.append(way)
    return usable[0] if usable else None


def _both(first: Any, second: Any, value: Any) -> Any:
    return second(first(value))
