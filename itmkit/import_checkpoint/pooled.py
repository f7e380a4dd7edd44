"""The published models with one vector an image and one a caption: a pooling over regions, and one over words.

VSE-infinity    a GPO in each part                          github.com/woodfrog/vse_infty (master, branch bigru)
ESA             a linear map in each part                   github.com/KevinLight831/ESA
HREM            a layer of a transformer in each part       github.com/CrossmodalGroup/HREM
"""

from __future__ import annotations

from typing import Any

from itmkit.import_checkpoint.bert import EMBEDDING, bert_settings, bert_sizes, bert_words
from itmkit.import_checkpoint.published import (
    Form,
    Options,
    Place,
    encoders,
    gru,
    linear,
    mlp_beside,
    sizes_of,
)
from itmkit.import_checkpoint.read import Checkpoint

Places = dict[tuple[int, str], Place | None]
SIDES = ((0, "image_pooling"), (1, "text_pooling"))


def vseinf(checkpoint: Checkpoint, options: Options) -> Form:
    return _with_gru("VSE-infinity", checkpoint, options, {"pooling": "gpo"}, _gpo())


def vseinf_bert(checkpoint: Checkpoint, options: Options) -> Form:
    return _with_bert("VSE-infinity with BERT", checkpoint, options, {"pooling": "gpo"}, _gpo())


def _gpo() -> Places:
    places: Places = {}
    for part, here in SIDES:
        places |= gru(part, "gpool.gru", f"{here}.gru")
        places[part, "gpool.linear.weight"] = Place(f"{here}.weigh.weight")
    return places


def esa(checkpoint: Checkpoint, options: Options) -> Form:
    return _with_gru("ESA", checkpoint, options, {"pooling": "esa"}, _elementwise())


def esa_bert(checkpoint: Checkpoint, options: Options) -> Form:
    return _with_bert("ESA with BERT", checkpoint, options, {"pooling": "esa"}, _elementwise())


def _elementwise() -> Places:
    places: Places = {}
    for part, here in SIDES:
        places[part, "linear1.weight"] = Place(f"{here}.weigh.weight")
        places[part, "linear1.bias"] = None  # it falls out of the softmax
    return places


def hrem(checkpoint: Checkpoint, options: Options) -> Form:
    heads = options.count("nhead", "the heads of its transformer have to be known")
    if abs(options.number("residual_weight") - 0.8) > 1e-9:
        options.say("opt.residual_weight is not 0.8, the share of the two largest values here")
    places: Places = {}
    for part, here in SIDES:
        layer = "aggr.layers.0"
        for name in ("self_attn.out_proj", "linear1", "linear2", "norm1", "norm2"):
            places |= linear(part, f"{layer}.{name}", f"{here}.layer.{name}")
        for name in ("in_proj_weight", "in_proj_bias"):
            places[part, f"{layer}.self_attn.{name}"] = Place(f"{here}.layer.self_attn.{name}")
    settings = {"pooling": "top2", "heads": heads}
    return _with_bert("HREM", checkpoint, options, settings, places, regions="fc.")


def _with_gru(source: str, checkpoint: Checkpoint, options: Options, settings: dict[str, Any], pooling: Places) -> Form:
    _features(options)
    options.usual_encoders()
    every = {**sizes_of(checkpoint), **settings, "region_encoder": "linear+mlp"}
    places = encoders("rnn") | mlp_beside() | pooling
    return Form(source, "vseinf", "global", every, places, ascii_letters=False, mask_word=True)


def _with_bert(
    source: str,
    checkpoint: Checkpoint,
    options: Options,
    settings: dict[str, Any],
    pooling: Places,
    *,
    regions: str = "",
) -> Form:
    """regions: what the published names of the region encoder begin with."""
    _features(options)
    options.usual_encoders(gru=False)
    every = {**bert_settings(checkpoint), **settings, "region_encoder": "linear+mlp"}
    places = linear(0, f"{regions}fc", "regions.project") | mlp_beside(regions) | pooling
    places |= bert_words(checkpoint, options)
    bert = bert_sizes(checkpoint)
    return Form(source, "vseinf", "global", every, places, ascii_letters=False, embedding=EMBEDDING, bert=bert)


def _features(options: Options) -> None:
    options.one_of("precomp_enc_type", {"basic": True}, "basic", why="; features are read, not pictures")
