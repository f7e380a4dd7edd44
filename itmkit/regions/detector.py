"""Regions from any object-detection model of transformers: DETR and its family, RT-DETR, D-FINE, YOLOS, ...

Such a model has a fixed number Q of box queries. Each gives a box, class scores and a state, its vector in the
decoder's last layer, which becomes the region's feature.

Shapes: B pictures of one batch, Q queries, C classes, D width of a state.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.models.hub import find_model, quiet_transformers, weights_sha256
from itmkit.models.look import check_probes, probes
from itmkit.models.pixels import check_picture_settings
from itmkit.models.processors import load_processor
from itmkit.pictures.load import check_proportions
from itmkit.regions.best import Boxes, best_regions, check_finite
from itmkit.regions.regions import ModelInput, Regions, equal_shapes

if TYPE_CHECKING:
    import torch
    from PIL import Image

SCENES_DETECTOR = Path(__file__).parent / "weights" / "scenes-detector"
WAYS_OUT = (
    "`itmkit extract-regions --download` fetches the default detector. Or use --backend grid, which takes any vision"
    " model, or import features made elsewhere with import-features."
)


@dataclass
class Detector:
    """A loaded detector.

    Attributes:
        model_id: what the user named: a hub name or a path.
        sha256: digest of the weights; two detectors with equal digests give equal regions.
        dim: D, the width of a region's feature.
        queries: Q, the most regions a picture can have.
        names: C class names.
    """

    model_id: str
    sha256: str
    dim: int
    queries: int
    names: list[str]
    model: Any
    processor: Any
    device: torch.device
    attribute_names: None = None
    square: None = None

    def detect(
        self,
        prepared: Sequence[ModelInput],
        *,
        regions: int = 36,
        nms: float | None = None,
        labels: Sequence[str] | None = None,
        batch: int = 16,
    ) -> list[Regions]:
        """The best boxes of each picture.

        Pictures are grouped by the size the model's own settings scale them to, so that none is ever padded: a
        picture's regions do not depend on what else is in the list. (A DETR that masks padding still sees it through
        its convolutions.)

        Args:
            prepared: upright RGB pictures of any sizes through `prepare`.
            regions: R, the most boxes to keep. Order: probability of the best class ("no object" left out), highest
                first; equal ones by query number. A model with Q < R queries gives Q.
            nms: drop a box that overlaps a better one by more than this IoU. Off by default: these detectors are
                trained to name each object once, and what they see around objects is context for a matcher.
            labels: names of the pictures for error messages.
            batch: the most pictures to run at once.

        Returns:
            For each picture: boxes (n, 4) float32 clipped to the picture, scores (n,), features (n, D), n tags.

        Raises:
            ItmkitError: the model gives numbers that are not finite; the picture is named.
        """
        found: dict[int, Regions] = {}
        for members in equal_shapes([one.inputs["pixel_values"].shape for one in prepared], batch):
            outputs = self._forward([prepared[number].inputs for number in members])
            for at, number in enumerate(members):
                name = labels[number] if labels else f"picture {number}"
                scores, boxes, states = (values[at] for values in outputs)
                queries = Boxes(scores.max(1), scores.argmax(1), boxes, states)
                check_finite(queries, f"{name}: the detector {self.model_id}")
                found[number] = best_regions(queries, prepared[number].size, self.names, most=regions, nms=nms)
        return [found[number] for number in range(len(prepared))]

    def prepare(self, image: Image.Image) -> ModelInput:
        """One picture scaled and normalised: pixel_values (1, 3, h, w), and pixel_mask where the model takes one."""
        check_proportions(image)
        inputs = self.processor(images=image, return_tensors="pt")
        wanted = {key: inputs[key] for key in ("pixel_values", "pixel_mask") if key in inputs and key in self._takes}
        return ModelInput(wanted, image.size)

    @cached_property
    def _takes(self) -> set[str]:
        return set(inspect.signature(self.model.forward).parameters)

    def _forward(self, prepared: list[dict[str, torch.Tensor]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Class probabilities (B, Q, C), boxes (B, Q, 4) as centre and size in [0, 1], states (B, Q, D)."""
        import torch

        inputs = {key: torch.cat([one[key] for one in prepared]).to(self.device) for key in prepared[0]}
        with torch.inference_mode():
            output = self.model(**inputs)
            logits = output.logits.float()
            # a column more than there are classes is "no object": classes compete; otherwise each stands for itself
            with_none = logits.shape[-1] == len(self.names) + 1
            scores = logits.softmax(-1)[..., :-1] if with_none else logits.sigmoid()
            # YOLOS returns its patches too; the box tokens come last
            states = output.last_hidden_state[:, -logits.shape[1] :]
        return tuple(t.float().cpu().numpy() for t in (scores, output.pred_boxes, states))  # type: ignore[return-value]


def load_detector(model: str | Path, *, device: str | torch.device = "cpu", allow_download: bool = False) -> Detector:
    """Loads a detector in float32.

    Args:
        model: a folder with config.json, preprocessor_config.json and model.safetensors, or a name on the Hugging Face
            hub, with `@revision` where one is meant (`facebook/detr-resnet-50@no_timm`).
        device: where to run, as torch names it.
        allow_download: fetch the model from the hub when it is not in the local hub cache.

    Raises:
        ItmkitError: the model cannot be loaded or is not an object detector. The message says what to do.
    """
    import torch
    from transformers import AutoModelForObjectDetection

    folder = find_model(str(model), allow_download=allow_download, ways_out=WAYS_OUT)
    network, processor = load_network(AutoModelForObjectDetection, folder, str(model))
    network.to(device)
    config = network.config
    names = [str(config.id2label.get(number, f"class {number}")) for number in range(config.num_labels)]
    detector = Detector(str(model), weights_sha256(folder), 0, 0, names, network, processor, torch.device(device))
    return _measured(detector)


def load_network(kind: Any, folder: Path, model: str) -> tuple[Any, Any]:
    """The network of a folder in float32, ready to be asked, and what turns a picture into its input.

    Args:
        kind: the class of transformers that loads it.

    Raises:
        ItmkitError: transformers cannot load it, or weights are missing.
    """
    import torch

    check_picture_settings(folder, model)
    offline: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with quiet_transformers():
        try:
            network, report = kind.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **offline
            )
            processor = load_processor(folder, model)
        except ImportError as error:
            raise ItmkitError(_missing_part(model, error)) from error
        except Exception as error:  # transformers and its tokenisers raise dozens of kinds
            reason = str(error).strip().split("\n")[0]
            raise ItmkitError(f"{model}: is no object-detection model that transformers can load ({reason})") from error
    lacking = sorted(name for name in report["missing_keys"] if "num_batches_tracked" not in name)
    if lacking or report.get("mismatched_keys"):
        lacking = lacking or sorted(str(key) for key in report["mismatched_keys"])
        raise ItmkitError(
            f"{model}: the weights do not fit the model ({len(lacking)} missing or reshaped, such as {lacking[0]})"
            "; a model without a trained detection head cannot give boxes"
        )
    return network.eval().requires_grad_(False), processor


def _measured(detector: Detector) -> Detector:
    """Runs one grey picture to learn Q and D, and to fail now rather than in the middle of a data set."""
    from PIL import Image

    try:
        grey = detector.prepare(Image.new("RGB", (96, 64), (128, 128, 128)))
        scores, boxes, states = detector._forward([grey.inputs])
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ItmkitError(f"{detector.model_id}: gives no boxes with a state for each ({reason})") from error
    if scores.shape[2] != len(detector.names) or states.shape[1] != boxes.shape[1]:
        raise ItmkitError(
            f"{detector.model_id}: gives {states.shape[1]} states for {boxes.shape[1]} boxes and {scores.shape[2]}"
            f" scores for {len(detector.names)} classes; such a model is not supported"
        )
    detector.queries, detector.dim = states.shape[1:]
    pictures = [detector.prepare(image).inputs for image in probes()]
    answers = [np.concatenate([detector._forward([one])[2] for one in pictures]) for _ in range(2)]
    check_probes(detector.model_id, *answers)
    return detector


def _missing_part(model: str, error: ImportError) -> str:
    if "timm" in str(error):
        name = model.partition("@")[0]
        return (
            f"{model}: its backbone comes from timm, which is not installed. Ways out: pip install timm, or a revision"
            f" without it ({name}@no_timm where the hub has one, as for facebook/detr-resnet-50), or another detector"
        )
    reason = str(error).strip().split("\n")[0]
    return f"{model}: needs a package that is not installed ({reason})"
