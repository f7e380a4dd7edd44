"""The Visual Genome model as a backend of extract-regions: 2,048 features, a class and an attribute for each region.

A region's feature always comes from the proposal box, also where its box in the cache is the regressed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from itmkit.errors import ItmkitError
from itmkit.files import digest, sha256_file
from itmkit.regions.bottom_up.network import FEATURES, LONGEST, SHORTEST, attribute_model, require_detectron2
from itmkit.regions.bottom_up.pictures import channels_first, scaled_size
from itmkit.regions.bottom_up.selection import select_original, select_regressed
from itmkit.regions.bottom_up.settings import ATTRIBUTE_COUNT, CLASSES, BottomUpSettings
from itmkit.regions.bottom_up.weights import fitted, read_weights
from itmkit.regions.regions import ModelInput, Regions, equal_shapes
from itmkit.regions.vg_vocabulary import ATTRIBUTES, OBJECTS, read_names

if TYPE_CHECKING:
    import torch
    from PIL import Image


@dataclass
class BottomUp:
    """The loaded model.

    Attributes:
        sha256: digest of the weight file; settings_sha256: of the vocabulary.
        names: 1,600 classes; attribute_names: 400.
        network: `GeneralizedRCNN` with the attribute layers.
        regressed: which selection; min_regions: the least number of regions a picture.
    """

    sha256: str
    settings_sha256: str
    names: list[str]
    attribute_names: list[str]
    network: Any
    regressed: bool
    min_regions: int
    device: torch.device
    dim: int = FEATURES
    square: None = None

    def prepare(self, image: Image.Image) -> ModelInput:
        """(3, h, w) float32, scaled as the model was trained."""
        size = scaled_size(*image.size, shortest=SHORTEST, longest=LONGEST)
        return ModelInput(channels_first(image, size), image.size)

    def detect(
        self,
        prepared: Sequence[ModelInput],
        *,
        regions: int = 36,
        labels: Sequence[str] | None = None,
        batch: int = 2,
    ) -> list[Regions]:
        """The regions of each picture, by the selection asked for.

        Args:
            prepared: upright RGB pictures of any sizes through `prepare`.
            regions: the most for one; fewer where the settings say so.
            labels: names of the pictures for error messages. batch: the most pictures to run at once; the layers
                behind the proposals run a picture at a time.

        Returns:
            For each picture: boxes (n, 4) in its pixels, scores (n,): the confidence, features (n, 2048), the most
            probable class and attribute of each.

        Raises:
            ItmkitError: the model gives numbers that are not finite; the picture is named.
        """
        import torch

        found: dict[int, Regions] = {}
        with torch.inference_mode():
            for members in equal_shapes([one.inputs.shape for one in prepared], batch):
                pixels = [torch.from_numpy(prepared[n].inputs).to(self.device) for n in members]
                batched = self.network.preprocess_image([{"image": one} for one in pixels])
                maps = self.network.backbone(batched.tensor)
                proposals, _ = self.network.proposal_generator(batched, maps, None)
                for at, number in enumerate(members):
                    own = {name: one[at : at + 1] for name, one in maps.items()}
                    label = labels[number] if labels else f"picture {number}"
                    found[number] = self._regions(own, proposals[at], prepared[number].size, regions, label)
        return [found[number] for number in range(len(prepared))]

    def _regions(
        self, maps: dict[str, torch.Tensor], proposals: Any, size: tuple[int, int], regions: int, label: str
    ) -> Regions:
        """One picture: maps (1, 1024, h, w), its proposals in pixels of the scaled picture, its own (width, height)."""
        import torch

        heads = self.network.roi_heads
        boxes = proposals.proposal_boxes
        pooled = heads._shared_roi_transform([maps[name] for name in heads.in_features], [boxes])
        features = pooled.mean(dim=(2, 3))
        outputs = heads.box_predictor(features)
        scores = heads.box_predictor.predict_probs(outputs, [proposals])[0][:, :-1]
        corners = boxes.tensor
        if self.regressed:
            every = heads.box_predictor.predict_boxes(outputs, [proposals])[0].reshape(len(corners), -1, 4)
            corners = every[torch.arange(len(corners), device=every.device), scores.argmax(1)]
        values = {"class scores": scores, "boxes": corners, "features": features}
        for what, tensor in values.items():
            if not bool(torch.isfinite(tensor).all()):
                raise ItmkitError(f"{label}: the model gives {what} that are not finite (NaN or infinite)")
        height, width = proposals.image_size
        frame = np.array([width, height] * 2, np.float32)
        corners_np = np.clip(corners.float().cpu().numpy(), 0, frame)
        select = select_regressed if self.regressed else select_original
        chosen = select(corners_np, scores.float().cpu().numpy(), least=min(self.min_regions, regions), most=regions)
        rows = torch.from_numpy(chosen.proposals).to(features.device)
        kept = features[rows]
        attributes = heads.box_predictor.attribute_probabilities(kept, outputs[0][rows]).argmax(1).tolist()
        return Regions(
            boxes=corners_np[chosen.proposals] * (np.array(size * 2, np.float32) / frame),
            scores=chosen.scores,
            features=kept.float().cpu().numpy(),
            tags=[self.names[number] for number in chosen.classes],
            attributes=[self.attribute_names[number] for number in attributes],
        )


def load_bottom_up(settings: BottomUpSettings, *, device: str | torch.device = "cpu") -> BottomUp:
    """Loads the Visual Genome model in float32.

    Raises:
        ItmkitError: detectron2 cannot be imported, the weights do not fit, or the vocabulary is not of this model.
    """
    import torch

    require_detectron2()
    assert settings.vocabulary is not None
    objects, attributes = settings.vocabulary / OBJECTS, settings.vocabulary / ATTRIBUTES
    names = read_names(objects, CLASSES), read_names(attributes, ATTRIBUTE_COUNT)
    network = attribute_model()
    load_weights(network, settings)
    network.to(device)
    return BottomUp(
        sha256=sha256_file(settings.weights),
        settings_sha256=digest({path.name: sha256_file(path) for path in (objects, attributes)}),
        names=names[0],
        attribute_names=names[1],
        network=network,
        regressed=settings.selection == "regressed",
        min_regions=settings.min_regions,
        device=torch.device(device),
    )


def load_weights(network: Any, settings: BottomUpSettings) -> None:
    """Puts the weight file into a network and makes it ready to run."""
    state = fitted(settings.weights, read_weights(settings.weights), network.state_dict())
    network.load_state_dict(state, strict=False)  # `fitted` has checked: only what follows from the settings is not in
    network.eval().requires_grad_(False)
