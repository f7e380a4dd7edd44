"""Regions from OWLv2 and OWL-ViT, detectors that look for the names they are given.

Every patch of the picture gives a box, and a vector that is compared with the vector of each name.

Shapes: B pictures of one batch, Q patches, C names, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.files import digest
from itmkit.models.hub import find_model, token_limit, weights_sha256
from itmkit.models.look import check_probes, probes
from itmkit.models.tokenizer import load_tokenizer
from itmkit.pictures.load import check_proportions
from itmkit.regions.best import Boxes, best_regions, check_finite
from itmkit.regions.detector import WAYS_OUT, load_network
from itmkit.regions.name_tokens import check_lengths, tokens_of
from itmkit.regions.regions import ModelInput, Regions

if TYPE_CHECKING:
    import torch
    from PIL import Image

PROMPT = "a photo of a {}"
NMS = 0.7  # neighbouring patches find the same object, and would fill a picture's regions with it
_NAMES_AT_ONCE = 256
# Model type -> its class in transformers, and whether it fills pictures up to a square or squashes them.
OWLS = {"owlv2": ("Owlv2ForObjectDetection", True), "owlvit": ("OwlViTForObjectDetection", False)}


@dataclass
class OpenDetector:
    """A loaded OWLv2 or OWL-ViT with the names it looks for.

    Attributes:
        model_id: what the user named: a hub name or a path.
        sha256: digest of the weights.
        dim: D, the width of a region's feature.
        names: C names.
        name_vectors: (1, C, D) float32 on the device, made once from the names.
        fills: whether pictures are filled up to a square; if not, they are squashed to one.
    """

    model_id: str
    sha256: str
    dim: int
    names: list[str]
    name_vectors: torch.Tensor
    fills: bool
    model: Any
    processor: Any
    device: torch.device
    attribute_names: None = None
    square: None = None

    @property
    def recorded(self) -> dict[str, Any]:
        """What the cache records beside the model: other names give other regions."""
        return {"vocabulary": digest(self.names), "prompt": PROMPT, "nms": NMS}

    def prepare(self, image: Image.Image) -> ModelInput:
        """One picture as a square, scaled: pixel_values (1, 3, S, S)."""
        check_proportions(image)
        inputs = self.processor(images=image, return_tensors="pt")
        return ModelInput({"pixel_values": inputs["pixel_values"].float()}, image.size)

    def detect(
        self,
        prepared: Sequence[ModelInput],
        *,
        regions: int = 36,
        labels: Sequence[str] | None = None,
        batch: int = 16,
    ) -> list[Regions]:
        """The best boxes of each picture, as `Detector.detect` gives them; overlapping ones (IoU above `NMS`) once.

        Boxes that lie in the filling only are left out, so a picture may have fewer regions than asked for.

        Raises:
            ItmkitError: the model gives numbers that are not finite; the picture is named.
        """
        found = []
        for start in range(0, len(prepared), batch):
            members = prepared[start : start + batch]
            outputs = self._forward([one.inputs["pixel_values"] for one in members])
            for at, (one, values) in enumerate(zip(members, outputs, strict=True), start):
                name = labels[at] if labels else f"picture {at}"
                check_finite(values, f"{name}: the detector {self.model_id}")
                values = _in_picture(values, one.size) if self.fills else values
                found.append(best_regions(values, one.size, self.names, most=regions, nms=NMS))
        return found

    def _forward(self, prepared: Sequence[torch.Tensor]) -> list[Boxes]:
        """The boxes of every picture, as shares of the square."""
        import torch

        with torch.inference_mode():
            maps, _ = self.model.image_embedder(torch.cat(list(prepared)).to(self.device))
            patches = maps.flatten(1, 2)
            logits, vectors = self.model.class_predictor(patches, self.name_vectors.expand(len(patches), -1, -1))
            best, classes = logits.float().max(-1)
            boxes = self.model.box_predictor(patches, maps)
        columns = [tensor.cpu().numpy() for tensor in (best.sigmoid(), classes, boxes, vectors)]
        return [Boxes(*(column[at] for column in columns)) for at in range(len(patches))]


def _in_picture(found: Boxes, size: tuple[int, int]) -> Boxes:
    """Boxes as shares of the picture, which lies at the top left of the square; those beside the picture left out."""
    boxes = found.boxes * np.tile(max(size) / np.array(size, np.float32), 2)
    inside = (boxes[:, :2] - boxes[:, 2:] / 2 < 1).all(1)
    return Boxes(found.scores[inside], found.classes[inside], boxes[inside], found.vectors[inside])


def load_open_detector(
    model: str | Path, names: Sequence[str], *, kind: str, device: str | torch.device = "cpu", allow_download: bool
) -> OpenDetector:
    """Loads an OWLv2 or OWL-ViT in float32, and makes the vectors of the names.

    Args:
        model: a folder with config.json, preprocessor_config.json, model.safetensors and a tokeniser, or a name on the
            Hugging Face hub, with `@revision` where one is meant.
        names: C names without duplicates.
        kind: the model type, one of `OWLS`.
        device: where to run, as torch names it.
        allow_download: fetch the model from the hub when it is not in the local hub cache.

    Raises:
        ItmkitError: the model cannot be loaded, or names have more tokens than it takes. The message says what to do.
    """
    import torch
    import transformers

    name, fills = OWLS[kind]
    if fills and find_spec("scipy") is None:
        raise ItmkitError(f"{model}: OWLv2 scales its pictures with scipy, which is not installed: pip install scipy")
    folder = find_model(str(model), allow_download=allow_download, ways_out=WAYS_OUT, tokenizer=True)
    network, processor = load_network(getattr(transformers, name), folder, str(model))
    if fills and not getattr(processor, "do_pad", False):
        raise ItmkitError(
            f"{model}: its picture settings do not fill pictures up to a square (do_pad), as OWLv2 was trained; look at"
            " preprocessor_config.json"
        )
    if getattr(processor, "do_center_crop", False) and processor.crop_size != processor.size:
        raise ItmkitError(
            f"{model}: its picture settings cut off the edges of pictures (do_center_crop), so that boxes would lie"
            " elsewhere; set do_center_crop to false in preprocessor_config.json"
        )
    network.to(device)
    vectors = _name_vectors(str(model), folder, network, names)
    detector = OpenDetector(
        model_id=str(model),
        sha256=weights_sha256(folder),
        dim=int(network.config.text_config.hidden_size),
        names=list(names),
        name_vectors=vectors,
        fills=fills,
        model=network,
        processor=processor,
        device=torch.device(device),
    )
    _check(detector)
    return detector


def _name_vectors(model: str, folder: Path, network: Any, names: Sequence[str]) -> torch.Tensor:
    """(1, C, D) float32 on the network's device: the text tower's vectors of the names, of length 1."""
    import torch

    tokenizer = load_tokenizer(folder, model)
    ids = tokens_of(model, tokenizer, [PROMPT.format(name) for name in names], framed=True)
    limit = token_limit(network, tokenizer)
    check_lengths(model, limit, names, [len(tokens) for tokens in ids])
    found = []
    with torch.inference_mode():
        for start in range(0, len(ids), _NAMES_AT_ONCE):
            some = ids[start : start + _NAMES_AT_ONCE]
            # Filled up on the right: no token sees a later one, so what stands there changes nothing.
            tokens = torch.zeros(len(some), limit, dtype=torch.long)
            mask = torch.zeros_like(tokens)
            for row, one in enumerate(some):
                tokens[row, : len(one)], mask[row, : len(one)] = torch.tensor(one), 1
            answer = network.base_model.get_text_features(tokens.to(network.device), mask.to(network.device))
            found.append(answer.pooler_output.float())
    vectors = torch.cat(found)
    if len(set(map(tuple, ids))) > 1 and bool((vectors == vectors[0]).all()):
        raise ItmkitError(f"{model}: gives the same vector for all names; its tokeniser does not fit its weights")
    return (vectors / vectors.norm(dim=-1, keepdim=True))[None]


def _check(detector: OpenDetector) -> None:
    """Runs two pictures, to fail now rather than in the middle of a data set."""
    pictures = [detector.prepare(image).inputs["pixel_values"] for image in probes()]
    try:
        answers = [np.stack([detector._forward([one])[0].vectors for one in pictures]) for _ in range(2)]
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ItmkitError(f"{detector.model_id}: gives no boxes ({reason})") from error
    check_probes(detector.model_id, *answers)
