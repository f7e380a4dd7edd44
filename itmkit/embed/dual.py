"""Dual encoders of transformers: CLIP, ALIGN, AltCLIP, GroupViT, SigLIP, BLIP and others with a common space.

Shapes: B pictures or captions, D width of the common space, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itmkit.embed.blip import BLIP_2, BlipTowers, is_blip_retrieval
from itmkit.errors import ItmkitError, first_line
from itmkit.machine.device import Precision, half
from itmkit.models.hub import find_model, quiet_transformers, token_limit, wants_lower
from itmkit.models.look import check_probes, probes
from itmkit.models.pixels import check_picture_settings
from itmkit.models.processors import load_processor
from itmkit.models.tokenizer import load_tokenizer
from itmkit.pictures.load import check_proportions
from itmkit.typed import model_json

if TYPE_CHECKING:
    import torch
    from PIL import Image

KINDS = "CLIP, ALIGN, AltCLIP, GroupViT, SigLIP, BLIP and others with get_image_features and get_text_features will do"


# What image processors make of a picture; other parts, such as its size, are not for the model.
PICTURE_INPUTS = ("pixel_values", "pixel_attention_mask", "spatial_shapes")


@dataclass
class DualEncoder:
    """A loaded dual encoder.

    Attributes:
        dim: D; limit: L, the most tokens a caption may have; longer ones are cut.
        pad_to_limit: whether captions are padded to the limit, as in training, or to the longest of a batch.
        masked: whether the model is told which tokens of a caption are padding.
        lower: whether captions are put in lower case first, which the tokeniser leaves to others (SigLIP 2).
    """

    model_id: str
    dim: int
    limit: int
    pad_to_limit: bool
    model: Any
    processor: Any
    tokenizer: Any
    device: torch.device
    precision: Precision = "float32"
    masked: bool = True
    lower: bool = False

    def prepare(self, image: Image.Image) -> dict[str, torch.Tensor]:
        """The model's input of an upright RGB picture of any size, scaled and cut as the model's own settings say.

        pixel_values is (1, 3, h, w). SigLIP 2 NaFlex has its patches there, (1, N, pixels), with a mask (1, N) and
        their rows and columns (1, 2).
        """
        check_proportions(image)
        made = self.processor(images=image, return_tensors="pt")
        return {name: made[name] for name in PICTURE_INPUTS if name in made}

    def image_vectors(self, prepared: Sequence[dict[str, torch.Tensor]], *, batch: int) -> np.ndarray:
        """(n, D) float32 of what `prepare` makes of n pictures."""
        import torch

        parts = []
        for start in range(0, len(prepared), batch):
            some = prepared[start : start + batch]
            inputs = {name: torch.cat([one[name] for one in some]).to(self.device) for name in some[0]}
            with torch.inference_mode(), half(self.device, self.precision):
                parts.append(self._pooled(self.model.get_image_features(**inputs)))
        return np.concatenate(parts)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each caption, special ones too, before any is cut."""
        with quiet_transformers():  # it warns of captions beyond the limit
            return self.tokenizer(self._cased(texts))["input_ids"]  # type: ignore[no-any-return]

    def token_counts(self, texts: Sequence[str]) -> np.ndarray:
        """(n,) int32 how many `token_ids` each caption has."""
        return np.array([len(one) for one in self.token_ids(texts)], np.int32)

    def text_vectors(self, texts: Sequence[str], counts: np.ndarray, *, batch: int) -> np.ndarray:
        """(n, D) float32 of captions in their order.

        Args:
            counts: (n,) their `token_counts`. Captions of like length go into a batch, so that little is padding.
        """
        import torch

        found = np.empty((len(texts), self.dim), np.float32)
        order = np.argsort(counts, kind="stable")
        for start in range(0, len(order), batch):
            some = order[start : start + batch]
            with torch.inference_mode(), half(self.device, self.precision):
                found[some] = self._pooled(self.model.get_text_features(**self._inputs([texts[i] for i in some])))
        return found

    def _inputs(self, texts: list[str]) -> dict[str, Any]:
        """input_ids (B, L) and, where the model was trained with one, attention_mask (B, L)."""
        padding = "max_length" if self.pad_to_limit else "longest"
        made = self.tokenizer(
            self._cased(texts), padding=padding, truncation=True, max_length=self.limit, return_tensors="pt"
        )
        return {
            name: tensor.to(self.device) for name, tensor in made.items() if self.masked or name != "attention_mask"
        }

    def _cased(self, texts: Sequence[str]) -> list[str]:
        return [text.lower() for text in texts] if self.lower else list(texts)

    def _pooled(self, output: Any) -> np.ndarray:
        vectors = getattr(output, "pooler_output", output)
        if vectors.ndim != 2:
            raise ValueError(f"vectors of shape {tuple(vectors.shape)}")
        return vectors.float().cpu().numpy()  # type: ignore[no-any-return]


def load_dual(
    model: str | Path,
    *,
    device: str | torch.device = "cpu",
    precision: Precision = "float32",
    allow_download: bool = False,
    lower: bool | None = None,
) -> DualEncoder:
    """Loads a dual encoder, with the tokeniser and the picture settings that lie beside it.

    Args:
        model: a folder with config.json, the settings of pictures (preprocessor_config.json or processor_config.json),
            a tokeniser and model.safetensors, or a hub name.
        lower: whether captions are put in lower case; None: as the model was trained.

    Raises:
        ItmkitError: the model cannot be loaded, lacks one of these parts, or does not give one vector for a picture and
            one for a caption in a common space.
    """
    import torch

    folder = find_model(str(model), allow_download=allow_download, ways_out=KINDS, tokenizer=True)
    check_picture_settings(folder, str(model))
    config = model_json(folder / "config.json")
    kind = config.get("model_type")
    if kind == "blip-2":
        raise ItmkitError(f"{model}: {BLIP_2}; {KINDS}")
    network, processor, tokenizer = _loaded(model, folder, config)
    network.eval().requires_grad_(False).to(device)
    # SigLIP reads the last token whatever it is, and was trained on captions padded to the limit, without a mask.
    siglip = str(kind).startswith("siglip")
    pad_to_limit = "attention_mask" not in tokenizer.model_input_names or siglip
    if siglip:
        tokenizer.padding_side = "right"  # some classes of tokenisers pad on the left, as text generators want it
    dual = DualEncoder(
        model_id=str(model),
        dim=0,
        limit=token_limit(network, tokenizer),
        pad_to_limit=pad_to_limit,
        model=network,
        processor=processor,
        tokenizer=tokenizer,
        device=torch.device(device),
        precision=precision,
        masked=not siglip,
        lower=wants_lower(str(kind), folder, tokenizer) if lower is None else lower,
    )
    _measure(dual)
    answers = [dual.image_vectors([dual.prepare(image) for image in probes()], batch=2) for _ in range(2)]
    check_probes(str(model), *answers)
    return dual


def _loaded(model: str | Path, folder: Path, config: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Network, picture settings and tokeniser as transformers loads them, with all weights."""
    import torch
    from transformers import AutoModel, BlipForImageTextRetrieval

    loader = BlipForImageTextRetrieval if is_blip_retrieval(config) else AutoModel
    offline: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with quiet_transformers():
        try:
            network, report = loader.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **offline
            )
        except Exception as error:  # transformers and its tokenisers raise dozens of kinds
            raise ItmkitError(f"{model}: is no model that transformers can load ({first_line(error)})") from error
        if loader is BlipForImageTextRetrieval:
            network = BlipTowers(network)
        if not all(hasattr(network, name) for name in ("get_image_features", "get_text_features")):
            raise ItmkitError(
                f"{model}: is no dual encoder of images and texts (model type {config.get('model_type')!r}); {KINDS}"
            )
        try:
            processor = load_processor(folder, str(model))
        except ItmkitError:
            raise
        except Exception as error:
            raise ItmkitError(f"{model}: its picture settings fail ({first_line(error)})") from error
    tokenizer = load_tokenizer(folder, str(model))
    lacking = sorted(name for name in report["missing_keys"] if "position_ids" not in name)
    if lacking or report.get("mismatched_keys"):
        raise ItmkitError(f"{model}: the weights do not fit the model ({', '.join(lacking[:3]) or 'shapes'} missing)")
    return network, processor, tokenizer


def _measure(dual: DualEncoder) -> None:
    """Runs a grey picture and a short caption: learns D, and fails now rather than in the middle of a data set."""
    from PIL import Image

    try:
        image = dual.image_vectors([dual.prepare(Image.new("RGB", (96, 64), (128, 128, 128)))], batch=1)
        dual.dim = image.shape[1]
        text = dual._inputs(["a dog"])
        width = dual._pooled(dual.model.get_text_features(**text)).shape[1]
    except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ItmkitError(
            f"{dual.model_id}: gives no vectors of a picture and a caption ({first_line(error)}); {KINDS}"
        ) from error
    if width != dual.dim:
        raise ItmkitError(
            f"{dual.model_id}: vectors of pictures have {dual.dim} numbers, those of captions {width}: no common space"
        )
