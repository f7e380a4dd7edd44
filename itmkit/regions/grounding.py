"""Regions from Grounding DINO and MM Grounding DINO, which look for the names of a prompt: "cat. red ball. dog."

Image and prompt meet inside these models, and a prompt has 256 tokens at most. So a picture goes through them once for
every prompt that the names fill; only what does not depend on the names, the vision backbone, runs once.

Shapes: B pictures of one batch, Q queries, T tokens of a prompt, D width of a query's state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
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
from itmkit.regions.open_vocabulary import NMS
from itmkit.regions.regions import ModelInput, Regions, equal_shapes

if TYPE_CHECKING:
    import torch
    from PIL import Image

CLASSES = {
    "grounding-dino": "GroundingDinoForObjectDetection",
    "mm-grounding-dino": "MMGroundingDinoForObjectDetection",
}
_FRAME = 3  # tokens of a prompt with one name beside those of the name: [CLS], "." and [SEP]


@dataclass(frozen=True)
class Prompt:
    """Names that a model is asked for together.

    ids: T tokens. places: where the tokens of names stand, without the full stops. names: for each of them, the number
    of its name.
    """

    ids: list[int]
    places: list[int]
    names: list[int]


@dataclass
class GroundedDetector:
    """A loaded Grounding DINO with the prompts it is asked.

    Attributes:
        model_id: what the user named: a hub name or a path.
        sha256: digest of the weights.
        dim: D, the width of a region's feature.
        names: C names.
    """

    model_id: str
    sha256: str
    dim: int
    names: list[str]
    prompts: list[Prompt]
    model: Any
    processor: Any
    device: torch.device
    attribute_names: None = None
    square: None = None

    @property
    def recorded(self) -> dict[str, Any]:
        """What the cache records beside the model: other names, or in another order, give other regions."""
        return {"vocabulary": digest(self.names), "prompt": "{}. {}.", "nms": NMS}

    def prepare(self, image: Image.Image) -> ModelInput:
        """One picture scaled and normalised: pixel_values (1, 3, h, w), and a pixel_mask (1, h, w) if one is made."""
        check_proportions(image)
        inputs = self.processor(images=image, return_tensors="pt")
        return ModelInput({key: inputs[key] for key in ("pixel_values", "pixel_mask") if key in inputs}, image.size)

    def detect(
        self,
        prepared: Sequence[ModelInput],
        *,
        regions: int = 36,
        labels: Sequence[str] | None = None,
        batch: int = 16,
    ) -> list[Regions]:
        """The best boxes of each picture over all prompts; overlapping ones (IoU above `NMS`) once.

        Pictures are grouped by the size the model's own settings scale them to, so that none is ever padded.

        Raises:
            ItmkitError: the model gives numbers that are not finite, or has more queries than a picture has cells; the
                picture is named.
        """
        found: dict[int, Regions] = {}
        for members in equal_shapes([one.inputs["pixel_values"].shape for one in prepared], batch):
            names = [labels[number] if labels else f"picture {number}" for number in members]
            try:
                outputs = self._forward([prepared[number].inputs for number in members])
            except RuntimeError as error:
                if "selected index k out of range" not in str(error):
                    raise
                width, height = prepared[members[0]].size
                raise ItmkitError(
                    f"{names[0]}: is too narrow for {self.model_id} ({width} x {height} pixels), which chooses"
                    f" {self.model.config.num_queries} of the cells of a picture; leave it out of the data set"
                ) from error
            for name, number, values in zip(names, members, outputs, strict=True):
                check_finite(values, f"{name}: the detector {self.model_id}")
                found[number] = best_regions(values, prepared[number].size, self.names, most=regions, nms=NMS)
        return [found[number] for number in range(len(prepared))]

    def _forward(self, prepared: list[dict[str, torch.Tensor]]) -> list[Boxes]:
        """The boxes of every picture, of all prompts in their order."""
        import torch

        inputs = {key: torch.cat([one[key] for one in prepared]).to(self.device) for key in prepared[0]}
        by_prompt = []
        for prompt in self.prompts:
            ids = torch.tensor([prompt.ids], device=self.device).expand(len(prepared), -1)
            with torch.inference_mode():
                output = self.model(input_ids=ids, **inputs)
                # A name's score is that of its best token, as in the post-processing of transformers.
                best, token = output.logits[..., prompt.places].float().max(-1)
            numbers = torch.tensor(prompt.names)[token.cpu()]
            columns = (best.sigmoid(), numbers, output.pred_boxes.float(), output.last_hidden_state.float())
            by_prompt.append([column.cpu().numpy() for column in columns])
        scores, classes, boxes, states = (np.concatenate(column, 1) for column in zip(*by_prompt, strict=True))
        return [Boxes(scores[at], classes[at], boxes[at], states[at]) for at in range(len(prepared))]


def load_grounded_detector(
    model: str | Path, names: Sequence[str], *, kind: str, device: str | torch.device = "cpu", allow_download: bool
) -> GroundedDetector:
    """Loads a Grounding DINO in float32, and puts the names into prompts.

    Args:
        model: a folder with config.json, preprocessor_config.json, model.safetensors and a tokeniser, or a name on the
            Hugging Face hub, with `@revision` where one is meant.
        names: C names without duplicates.
        kind: the model type, one of `CLASSES`.
        device: where to run, as torch names it.
        allow_download: fetch the model from the hub when it is not in the local hub cache.

    Raises:
        ItmkitError: the model cannot be loaded, or names cannot be asked for. The message says what to do.
    """
    import torch
    import transformers

    folder = find_model(str(model), allow_download=allow_download, ways_out=WAYS_OUT, tokenizer=True)
    network, processor = load_network(getattr(transformers, CLASSES[kind]), folder, str(model))
    tokenizer = load_tokenizer(folder, str(model))
    limit = min(token_limit(network, tokenizer), network.config.max_text_len)
    prompts = make_prompts(str(model), tokenizer, network.model.special_tokens.tolist(), names, limit)
    network.to(device)
    network.model.backbone.forward = _once_a_picture(network.model.backbone.forward)
    network.model.text_backbone.forward = _once_a_prompt(network.model.text_backbone.forward)
    detector = GroundedDetector(
        model_id=str(model),
        sha256=weights_sha256(folder),
        dim=int(network.config.d_model),
        names=list(names),
        prompts=prompts,
        model=network,
        processor=processor,
        device=torch.device(device),
    )
    _check(detector)
    return detector


def make_prompts(model: str, tokenizer: Any, ends: list[int], names: Sequence[str], limit: int) -> list[Prompt]:
    """As few prompts as the names fill in their order, each of as many whole names as fit.

    Args:
        ends: the tokens at which the model ends a name: [CLS], [SEP], full stop and question mark.
        limit: the most tokens of a prompt.

    Raises:
        ItmkitError: the tokeniser is not that of the model; names are too long, have no tokens or hold the end of one.
    """
    stop = tokenizer.convert_tokens_to_ids(".")
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    if not {start, end, stop} <= set(ends):
        raise ItmkitError(
            f"{model}: its tokeniser does not fit it; that of BERT in lower case is needed, as Grounding DINO was"
            " trained"
        )
    cut = tokens_of(model, tokenizer, names, framed=False)
    check_lengths(model, limit, names, [len(one) + _FRAME for one in cut])
    wrong = [name for name, one in zip(names, cut, strict=True) if not one or set(one) & set(ends)]
    if wrong:
        raise ItmkitError(
            f"{model}: {len(wrong)} names of the vocabulary have a full stop or a question mark, which ends a name in"
            f" a prompt, or nothing that its tokeniser reads: {', '.join(wrong[:5])}"
        )
    prompts: list[Prompt] = []
    asked = set()
    for number, tokens in enumerate(cut):
        if tuple(tokens) in asked:  # names that differ in accents only are one to the model: the first counts
            continue
        asked.add(tuple(tokens))
        if not prompts or len(prompts[-1].ids) + len(tokens) + 2 > limit:
            prompts.append(Prompt([start], [], []))
        prompt = prompts[-1]
        prompt.places.extend(range(len(prompt.ids), len(prompt.ids) + len(tokens)))
        prompt.names.extend([number] * len(tokens))
        prompt.ids.extend([*tokens, stop])
    for prompt in prompts:
        prompt.ids.append(end)
    return prompts


def _once_a_picture(backbone: Callable[..., Any]) -> Callable[..., Any]:
    """A vision backbone that answers from memory as long as it is asked about the same tensor of pixels."""
    seen: list[Any] = [None, None]

    def remembered(pixel_values: Any, pixel_mask: Any) -> tuple[list[Any], list[Any]]:
        if seen[0] is not pixel_values:
            seen[:] = pixel_values, backbone(pixel_values, pixel_mask)
        maps, positions = seen[1]
        return list(maps), list(positions)  # the model adds coarser maps to the lists it gets

    return remembered


def _once_a_prompt(backbone: Callable[..., Any]) -> Callable[..., Any]:
    """A language model that reads each prompt once; all texts of a batch are the same prompt."""
    known: dict[tuple[int, ...], Any] = {}

    def remembered(ids: Any, *masks: Any, **options: Any) -> SimpleNamespace:
        prompt = tuple(ids[0].tolist())
        if prompt not in known:
            known[prompt] = backbone(ids[:1], *(one[:1] for one in masks), **options).last_hidden_state
        return SimpleNamespace(last_hidden_state=known[prompt].expand(len(ids), -1, -1))

    return remembered


def _check(detector: GroundedDetector) -> None:
    """Runs two pictures, to fail now rather than in the middle of a data set."""
    pictures = [detector.prepare(image).inputs for image in probes()]
    # One prompt will do: the others differ in their names only.
    asked, detector.prompts = detector.prompts, detector.prompts[:1]
    try:
        answers = [np.stack([detector._forward([one])[0].vectors for one in pictures]) for _ in range(2)]
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ItmkitError(f"{detector.model_id}: gives no boxes ({reason})") from error
    detector.prompts = asked
    check_probes(detector.model_id, *answers)
