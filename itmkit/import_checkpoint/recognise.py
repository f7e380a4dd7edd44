"""Which published model a checkpoint holds, by the names of its tensors; and why others are refused."""

from __future__ import annotations

import torch

from itmkit.errors import ItmkitError
from itmkit.import_checkpoint.forms import FORMS
from itmkit.import_checkpoint.published import Form, Options
from itmkit.import_checkpoint.read import Checkpoint, Part

_BERT = (
    "its BERT was trained with the rest and reads word pieces with [CLS] and [SEP], each of which is pooled; itmkit"
    " reads frozen vectors of words, so its scores would be others"
)


def understood(checkpoint: Checkpoint, wanted: str | None) -> Form:
    """What the checkpoint is here.

    Args:
        wanted: the method it has to be; None takes what its names say.

    Raises:
        ItmkitError: it is not recognised, is known but cannot be scored as published, or is another method than wanted;
            or tensors are missing, or some are there that no place is known for.
    """
    path, name = checkpoint.path, _name(checkpoint)
    if wanted is not None and wanted != name:
        raise ItmkitError(f"{path}: holds {name}, not {wanted}: leave out --as {wanted}")
    if "fc.weight_v" in checkpoint.parts[0]:
        _merge_weight_norm(checkpoint.parts[0])
    matrices = [(0, "fc.weight"), (1, "embed.weight")]
    matrices += [(2, "sim_eval_w.weight")] if name in ("sgraf", "rcar") else []
    lacking = [
        checkpoint.named(part, key)
        for part, key in matrices
        if getattr(checkpoint.parts[part].get(key), "ndim", 0) != 2
    ]
    if lacking:
        raise ItmkitError(f"{path}: {', '.join(lacking)} must be a matrix")
    options = Options(checkpoint)
    form = FORMS[name](checkpoint, options)
    there = {(number, key) for number, part in enumerate(checkpoint.parts) for key in part}
    problems = options.problems
    # Wrong options change which tensors there are: what is said of them would only confuse.
    if not problems:
        absent, unknown = sorted(form.places.keys() - there)[:10], sorted(there - form.places.keys())[:10]
        problems += [f"{path}: {checkpoint.named(*each)} is missing" for each in absent]
        problems += [f"{path}: {checkpoint.named(*each)}: {form.source} has no such tensor" for each in unknown]
    if problems:
        raise ItmkitError(problems)
    return form


def _name(checkpoint: Checkpoint) -> str:
    """The method of a checkpoint. Raises ItmkitError where it has none here."""
    names = [set(part) for part in checkpoint.parts]
    why = _refused(checkpoint, names)
    if why is None and len(names) == 3 and "sim_tranloc_w.weight" in names[2]:
        return "sgraf"
    if why is None and checkpoint.apart and "sim_eval_w.weight" in names[2]:
        return "rcar"
    if why is None and len(names) >= 2 and {"fc.weight", "fc.weight_v"} & names[0] and "embed.weight" in names[1]:
        if len(names) == 4 and not names[2] | names[3]:
            return "chan"
        if len(names) == 2 and {"gpool.linear.weight"} <= names[0] & names[1]:
            return "vseinf"
        if len(names) == 2 and "cross_attn" in checkpoint.options:
            return "scan"
    known = "SCAN, SGRAF, RCAR, VSE-infinity with a GRU and CHAN with a GRU are read (docs/published-weights.md)"
    raise ItmkitError(f"{checkpoint.path}: {why or 'its tensors are of no published model known here'}; {known}")


def _refused(checkpoint: Checkpoint, names: list[set[str]]) -> str | None:
    """Why a model that is recognised is not read; None for all others."""
    every = set().union(*names)
    if any(key.startswith(("bert.", "txt_enc.bert.")) for key in every):
        return f"holds a text encoder with BERT: {_BERT}"
    if any(key.startswith(("backbone.", "cnn.")) for key in every):
        return "holds a network that reads pictures; itmkit reads region features"
    if "position_embedding.weight" in every:
        return (
            "holds PFAN or GLFN, whose published attention to block positions is another than the papers' and itmkit's,"
            " so its scores would be others"
        )
    if "measure" in checkpoint.options and len(names) == 2 and "gpool.linear.weight" not in every:
        return "holds VSE++, which reads one vector a picture and a GRU of one direction; vsepp here is another network"
    return None


def _merge_weight_norm(part: Part) -> None:
    """`fc.weight_g` and `fc.weight_v` into the weight that they stand for."""
    v, g = part["fc.weight_v"], part.get("fc.weight_g")
    if g is None or v.ndim != 2 or (g.numel() != 1 and g.shape != (len(v), 1)):
        return
    length = v.norm() if g.numel() == 1 else torch.linalg.vector_norm(v, dim=1, keepdim=True)
    part["fc.weight"] = v * (g.reshape(-1, 1) / length)
    del part["fc.weight_v"], part["fc.weight_g"]
