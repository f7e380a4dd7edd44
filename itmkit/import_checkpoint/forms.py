"""The published models that are recognised, one function each. Each names every tensor of the checkpoint.

SCAN            regions, words                              github.com/kuanghuei/SCAN
SGRAF           regions, words, similarity                  github.com/Paranioar/SGRAF
RCAR            regions, words, similarity, in one module   github.com/Paranioar/RCAR
CHAN            regions, words, two parts without weights   github.com/ppanzx/CHAN

Those with one vector an image are in `itmkit.import_checkpoint.pooled`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from itmkit.import_checkpoint.bert import EMBEDDING, bert_settings, bert_sizes, bert_words
from itmkit.import_checkpoint.pooled import esa, esa_bert, hrem, vseinf, vseinf_bert
from itmkit.import_checkpoint.published import (
    Form,
    Options,
    Place,
    batch_norm,
    encoders,
    linear,
    mlp_beside,
    sizes_of,
)
from itmkit.import_checkpoint.read import Checkpoint

Places = dict[tuple[int, str], Place | None]


def scan(checkpoint: Checkpoint, options: Options) -> Form:
    way = options.one_of("cross_attn", {"t2i": "t2i", "i2t": "i2t"})
    pool = options.one_of("agg_func", {"LogSumExp": "lse", "Mean": "mean"})
    options.one_of("raw_feature_norm", {"clipped_l2norm": True}, "clipped_l2norm")
    options.one_of("precomp_enc_type", {"basic": True, "weight_norm": True}, "basic")
    options.must_be("bi_gru", True, "itmkit's GRU reads both ways")
    options.usual_encoders()
    settings = {
        **sizes_of(checkpoint),
        "directions": way,
        "attention_bonus": 0.0,
        f"sharpness_{way}": options.number("lambda_softmax"),
        f"pool_{way}": pool,
    }
    if pool == "lse":
        settings[f"lse_sharpness_{way}"] = options.number("lambda_lse")
    return Form(f"SCAN {way}", "scan", way, settings, encoders("rnn"))


def sgraf(checkpoint: Checkpoint, options: Options) -> Form:
    member = options.one_of("module_name", {"SGR": "sgr", "SAF": "saf"})
    options.must_be("bi_gru", True, "itmkit's GRU reads both ways")
    options.usual_encoders()
    steps = options.number("sgr_step", 3) if member == "sgr" else 3
    size = checkpoint.parts[2]["sim_eval_w.weight"].shape[-1]
    settings = {
        **sizes_of(checkpoint),
        "modules": member,
        "similarity": size,
        "steps": int(steps),
        "pooling": "positions",
        "alignment": "both",
        "sharpness": 9.0,
        "similarity_bias": True,
        "unit_nodes": True,
        "unit_filtered": True,
    }
    places: Places = encoders("cap_rnn")
    places |= linear(2, "sim_tranloc_w", "local_similarity.project")
    places |= linear(2, "sim_tranglo_w", "global_similarity.project")
    places |= linear(2, "sim_eval_w", "predict")
    places |= _pooling("v_global_w", "image_pooling", norms=True) | _pooling("t_global_w", "text_pooling", norms=False)
    if member == "sgr":
        for step in range(min(int(steps), 100)):
            for published, here in (("graph_query_w", "ask"), ("graph_key_w", "answer"), ("sim_graph_w", "infer")):
                places |= linear(2, f"SGR_module.{step}.{published}", f"graph.steps.{step}.{here}")
            places[2, f"SGR_module.{step}.graph_key_w.bias"] = None  # it falls out of the softmax
    else:
        places[2, "SAF_module.attn_sim_w.weight"] = Place("graph.weigh.weight")
        places |= batch_norm(2, "SAF_module.bn", "graph.norm")
        places[2, "SAF_module.attn_sim_w.bias"] = Place("graph.norm.running_mean", -1)
    return Form(f"SGRAF {member.upper()}", "sgraf", member, settings, places, regions=36)


def _pooling(published: str, here: str, *, norms: bool) -> Places:
    places = linear(2, f"{published}.embedding_local.0", f"{here}.key")
    places[2, f"{published}.embedding_global.0.weight"] = Place(f"{here}.query.weight")
    places[2, f"{published}.embedding_common.0.weight"] = Place(f"{here}.weigh.weight")
    places[2, f"{published}.embedding_common.0.bias"] = None  # it falls out of the softmax
    if not norms:
        return places | {(2, f"{published}.embedding_global.0.bias"): Place(f"{here}.query.bias")}
    places |= batch_norm(2, f"{published}.embedding_local.1", f"{here}.key_norm")
    places |= batch_norm(2, f"{published}.embedding_global.1", f"{here}.query_norm")
    places[2, f"{published}.embedding_global.0.bias"] = Place(f"{here}.query_norm.running_mean", -1)
    return places


def rcar(checkpoint: Checkpoint, options: Options) -> Form:
    member = options.one_of("attn_type", {"t2i": "t2i", "i2t": "i2t"})
    regulators, count = options.one_of(
        "self_regulator",
        {"coop_rcar": ("both", "rcar_step"), "only_rcr": ("rcr", "rcr_step"), "only_rar": ("rar", "rar_step")},
    )
    options.must_be("use_bi_gru", True, "itmkit's GRU reads both ways")
    options.usual_encoders()
    steps = options.count(count, "without a step it has no regulators")
    settings = {
        **sizes_of(checkpoint),
        "region_encoder": "linear+mlp",
        "similarity": checkpoint.parts[2]["sim_eval_w.weight"].shape[-1],
        "directions": member,
        "regulators": regulators,
        "steps": steps,
        f"sharpness_{member}": options.number(f"{member}_smooth"),
    }
    places: Places = encoders("rnn") | mlp_beside()
    kept = min(steps, 100)
    for step in range(1 if regulators == "rar" else kept):
        places |= linear(2, f"alv_modules.{step}.sim_transform_w", f"alignments.{step}.project")
    for step in range({"both": kept - 1, "rcr": kept, "rar": 0}[regulators]):
        for published, here in (("rcr_matrix_w", "gates"), ("rcr_smooth_w", "sharpness")):
            for layer in (0, 2):
                places |= linear(2, f"rcr_modules.{step}.{published}.{layer}", f"correspondence.{step}.{here}.{layer}")
    for step in range(0 if regulators == "rcr" else kept):
        places |= linear(2, f"rar_modules.{step}.rar_k_w.0", f"aggregation.{step}.key")
        places |= linear(2, f"rar_modules.{step}.rar_q_w.0", f"aggregation.{step}.query")
        places[2, f"rar_modules.{step}.rar_v_w.0.weight"] = Place(f"aggregation.{step}.weigh.weight")
        places[2, f"rar_modules.{step}.rar_v_w.0.bias"] = None  # it falls out of the softmax
    if regulators == "rcr":
        places |= {(2, "sim_eval_w.weight"): None, (2, "sim_eval_w.bias"): None}  # its score is a mean of cosines
    else:
        places |= linear(2, "sim_eval_w", "predict")
    return Form(f"RCAR {member}", "rcar", member, settings, places, ascii_letters=False, mask_word=True)


def chan(checkpoint: Checkpoint, options: Options) -> Form:
    options.one_of("text_enc_type", {"bigru": True}, "bigru")
    options.usual_encoders()
    settings, places = _hard_coding(options)
    places |= encoders("rnn") | {(1, "fc.weight"): None, (1, "fc.bias"): None}  # never called
    settings |= sizes_of(checkpoint)
    return Form("CHAN", "chan", "local", settings, places, ascii_letters=False, mask_word=True)


def chan_bert(checkpoint: Checkpoint, options: Options) -> Form:
    options.one_of("text_enc_type", {"bert": True}, "bert")
    options.usual_encoders(gru=False)
    settings, places = _hard_coding(options)
    places |= linear(0, "fc", "regions.project") | bert_words(checkpoint, options)
    settings |= bert_settings(checkpoint)
    bert = bert_sizes(checkpoint)
    return Form("CHAN with BERT", "chan", "local", settings, places, False, embedding=EMBEDDING, bert=bert)


def _hard_coding(options: Options) -> tuple[dict[str, Any], Places]:
    """The settings and the places of CHAN that do not depend on its words."""
    attention = options.one_of("precomp_enc_type", {"basic": False, "selfattention": True})
    options.one_of("coding_type", {"VHACoding": True})
    pool = options.one_of("pooling_type", {"LSEPooling": "lse", "MeanPooling": "mean"})
    settings: dict[str, Any] = {"self_attention": attention, "heads": 8, "pool": pool}
    if pool == "lse":
        settings["lse_sharpness"] = 1 / (options.number("belta", 0.1) or 1.0)
    places: Places = {}
    if attention:
        places |= linear(0, "feedforward.ln", "attention.norm")
        places |= linear(0, "feedforward.attn.out_proj", "attention.attention.out_proj")
        for name in ("in_proj_weight", "in_proj_bias"):
            places[0, f"feedforward.attn.{name}"] = Place(f"attention.attention.{name}")
    return settings, places


# By name, with the method that it becomes. A new form has a line here and one in `recognise`.
FORMS: dict[str, tuple[str, Callable[[Checkpoint, Options], Form]]] = {
    "scan": ("scan", scan),
    "sgraf": ("sgraf", sgraf),
    "rcar": ("rcar", rcar),
    "vseinf": ("vseinf", vseinf),
    "vseinf-bert": ("vseinf", vseinf_bert),
    "esa": ("vseinf", esa),
    "esa-bert": ("vseinf", esa_bert),
    "hrem": ("vseinf", hrem),
    "chan": ("chan", chan),
    "chan-bert": ("chan", chan_bert),
}
