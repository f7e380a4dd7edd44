"""Which published model a checkpoint holds, by the names of its tensors; and why others are refused."""

from __future__ import annotations

import torch

from itmkit.errors import ItmkitError
from itmkit.import_checkpoint.bert import MATRICES, has_bert
from itmkit.import_checkpoint.forms import FORMS
from itmkit.import_checkpoint.published import Form, Options
from itmkit.import_checkpoint.read import Checkpoint, Part

KNOWN = "SCAN, SGRAF, RCAR, VSE-infinity, ESA, HREM and CHAN are read (docs/published-weights.md)"


def understood(checkpoint: Checkpoint, wanted: str | None) -> Form:
    """What the checkpoint is here.

    Args:
        wanted: the method it has to be; None takes what its names say.

    Raises:
        ItmkitError: it is not recognised, is known but cannot be scored as published, or is another method than wanted;
            or tensors are missing, or some are there that no place is known for.
    """
    path, name = checkpoint.path, _name(checkpoint)
    method, form_of = FORMS[name]
    if wanted is not None and wanted != method:
        raise ItmkitError(f"{path}: holds {method}, not {wanted}: leave out --as {wanted}")
    if "fc.weight_v" in checkpoint.parts[0]:
        _merge_weight_norm(checkpoint.parts[0])
    matrices = [(0, "fc.fc.weight" if name == "hrem" else "fc.weight")]
    matrices += [(1, key) for key in MATRICES] if has_bert(checkpoint) else [(1, "embed.weight")]
    matrices += [(2, "sim_eval_w.weight")] if name in ("sgraf", "rcar") else []
    lacking = [
        checkpoint.named(part, key)
        for part, key in matrices
        if getattr(checkpoint.parts[part].get(key), "ndim", 0) != 2
    ]
    if lacking:
        raise ItmkitError(f"{path}: {', '.join(lacking)} must be a matrix")
    options = Options(checkpoint)
    form = form_of(checkpoint, options)
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
    """The name in `FORMS` of what a checkpoint holds. Raises ItmkitError where it has none."""
    names = [set(part) for part in checkpoint.parts]
    why = _refused(checkpoint, names)
    if why is None and len(names) == 3 and "sim_tranloc_w.weight" in names[2]:
        return "sgraf"
    if why is None and checkpoint.apart and "sim_eval_w.weight" in names[2]:
        return "rcar"
    bert = has_bert(checkpoint)
    known_words = len(names) >= 2 and (bert or "embed.weight" in names[1])
    if why is None and known_words and {"fc.weight", "fc.weight_v", "fc.fc.weight"} & names[0]:
        with_bert = "-bert" if bert else ""
        if len(names) == 4 and not names[2] | names[3]:
            return f"chan{with_bert}"
        both = names[0] & names[1] if len(names) == 2 else set()
        if "gpool.linear.weight" in both:
            return f"vseinf{with_bert}"
        if "linear1.weight" in both:
            return f"esa{with_bert}"
        if bert and "fc.fc.weight" in names[0] and "aggr.layers.0.linear1.weight" in both:
            return "hrem"
        if len(names) == 2 and not bert and "cross_attn" in checkpoint.options:
            return "scan"
    raise ItmkitError(f"{checkpoint.path}: {why or 'its tensors are of no published model known here'}; {KNOWN}")


def _refused(checkpoint: Checkpoint, names: list[set[str]]) -> str | None:
    """Why a model that is recognised is not read; None for all others."""
    every = set().union(*names)
    if any(key.removeprefix("img_enc.").startswith(("backbone.", "cnn.", "visual_encoder.")) for key in every):
        return (
            "holds a network that reads pictures, trained with the rest (VSE-infinity on grids, LAPS, D2S-VSE); itmkit"
            " reads stored features of regions, with which its scores would be others"
        )
    if has_bert(checkpoint) and len(names) == 3 and names[2]:
        return (
            "holds ESL or X-Dim, which weigh or regroup the numbers of regions and words before they compare them;"
            " itmkit computes nothing like it"
        )
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
