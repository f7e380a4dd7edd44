"""Tiny settings of every method, which its literal test and the contract test run over.

A method without a row here is tried with its defaults, in the sizes of `SIZES`.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from itmkit.matchers import METHODS, method, preset

Settings = dict[str, Any]

# Sizes, where a method has a setting of this name; and what a method is tried with beside them.
SIZES: Settings = {"embed": 12, "word": 7, "width": 8, "layers": 2, "heads": 2}
BESIDE: dict[str, Settings] = {
    "mpsm": {"similarity": 6},
    "glfn": {"position": 6},
    "sgraf": {"similarity": 10},  # with a smaller one, a ReLU of SGR may leave nothing alive
    "cmfg": {"query": 5},
    "scl": {"embed": 6},
    "rcar": {"similarity": 8},
}

# What shows whether padding, company, order and blocks matter: each way in which numbers of a batch meet.
HANDFUL: dict[str, list[Settings]] = {
    "mpsm": [
        {},
        {"training": "joint"},
        {"alignment": "global"},
        {"alignment": "local"},
        {"srgr": False},
        {"srgr_edges": "product", "srgr_steps": 2, "alignment": "local"},
        {"kgid_softmax": "node", "kgid_weight": "mean"},
        {"kgid_softmax": "none", "kgid_shortcut": "outside", "affinity": "others", "spatial": "heads", "kernels": 4},
        {"pooling": "published"},
        {"unit_nodes": False, "kgid_softmax": "node", "srgr_steps": 2},
    ],
    "glfn": [
        {},
        {"words": "gru"},
        {"attention_bonus": 0.5},
        {"pool_t2i": "lse", "pool_i2t": "lse"},
        {"pool_t2i": "lse", "attention_bonus": 0.5},
    ],
    "sgraf": [
        {},
        {"alignment": "global"},
        {"alignment": "local"},
        {"pooling": "published"},
        {"pooling": "positions"},
        {"steps": 2, "alignment": "local"},
        {"unit_nodes": False},
        {"unit_filtered": False},
        {"words": "bert"},
    ],
    "mefn": [
        {},
        {"words": "gru"},
        {"entropy": "conditional"},
        {"mfe": False},
        {"local_attention": False},
        {"global_attention": False},
        {"certainty": "match", "mfe_weight": 0.5, "global_attention": False},
        {"class_vectors": "text"},
        {"class_vectors": "both", "images": "patches-dino"},
    ],
    "cmfg": [
        {},
        {"edges": "intra"},
        {"edges": "cross"},
        {"layers": 0},
        {"renew_edges": False},
        {"softmax": "apart", "edges": "cross"},
        {"softmax": "apart", "renew_edges": False, "layers": 3},
        {"softmax": "apart", "residual": False, "words": "gru"},
        {"image_nodes": 2},
        {"region_encoder": "linear+mlp"},
    ],
    "scl": [
        {},
        {"words": "learned"},
        {"class_vectors": "both"},
        {"inputs": "pooled"},
        {"region_encoder": "linear+mlp"},
    ],
    "chan": [{}, {"pool": "lse"}, {"self_attention": False, "words": "bert", "images": "patches-dino"}],
    "vseinf": [{}, {"pooling": "esa"}, {"pooling": "top2"}, {"pooling": "mean", "words": "bert"}],
    "rcar": [
        {},
        {"regulators": "rar"},
        {"regulators": "rcr"},
        {"steps": 3, "region_encoder": "linear"},
    ],
    "laps": [
        {},
        {"keep": 0.8, "aggregate": 1.0, "words": "gru"},
        {"class_vectors": "image", "images": "patches-dino", "keep": 0.3, "aggregate": 1.0},
        {"keep": 1.0, "aggregate": 0.6},
        {"region_encoder": "linear+mlp", "class_vectors": "image"},
    ],
    "vsepp": [{}, {"words": "bert"}],
}

# Everything else that changes what is built or computed.
REST: dict[str, list[Settings]] = {
    "mpsm": [
        {"training": "joint", "similarities": "direction"},
        {"similarities": "distance"},
        {"srgr": False, "alignment": "global"},
        {"srgr": False, "alignment": "local"},
        {"srgr_steps": 3},
        {"srgr_steps": 2, "alignment": "local"},
        {"srgr_edges": "product"},
        {"srgr_edges": "product", "similarity_bias": True, "plain_start": True},
        {"kgid_layers": 0},
        {"kgid_layers": 1},
        {"kgid_layers": 2},
        {"visual_kgid": False},
        {"text_kgid": False},
        {"kgid_softmax": "node"},
        {"kgid_weight": "mean", "kgid_logits": 1.0},
        {"kgid_softmax": "none"},
        {"spatial": "heads", "kernels": 6, "kgid_start": 1.0},
        {"kgid_shortcut": "outside"},
        {"affinity": "others"},
        {"affinity": "none", "visual_kgid": False, "images": "patches"},
        {"similarity_bias": True},
        {"similarity_bias": True, "plain_start": True},
        {"similarity_bias": True, "plain_start": True, "training": "joint"},
        {"unit_nodes": False},
        {"kernels": 3, "sharpness": 4.0},
        {"region_encoder": "linear+mlp"},
    ],
    "glfn": [
        {"tags": False},
        {"positions": False},
        {"tags": False, "positions": False, "images": "patches"},
        {"words": "bert"},
        {"compress": False},
        {"position": 3},
        {"position_training": False},
        {"pool_t2i": "lse", "pool_i2t": "lse", "lse_sharpness_t2i": 20.0, "lse_sharpness_i2t": 20.0},
        {"sharpness_t2i": 20.0, "sharpness_i2t": 9.0},
        preset("pfan"),
        preset("scan"),
        {**preset("scan"), "region_encoder": "linear+mlp"},
    ],
    "sgraf": [
        {"pooling": "published", "alignment": "global"},
        {"pooling": "published", "unit_nodes": False},
        {"steps": 1},
        {"similarity_bias": False},
        {"unit_filtered": False, "alignment": "local"},
        {"sharpness": 4.0},
        {"plain_start": True},
        {"plain_start": True, "alignment": "global"},
        {"plain_start": True, "alignment": "local"},
        {"words": "bert+gru"},
        {"region_encoder": "linear+mlp", "plain_start": True},
    ],
    "mefn": [
        {"words": "bert"},
        {"region_encoder": "linear+mlp"},
        {"mfe": False, "local_attention": False},
        {"mfe": False, "global_attention": False},
        {"entropy": "conditional", "local_attention": False},
        {"entropy": "conditional", "global_attention": False},
        {"weight_temperature": 0.1, "sharpness": 5.0, "sharpness_i2t": 6.0},
        {"mfe_weight": 0.5},
        {"mfe_weight": 0.5, "entropy": "conditional"},
        {"certainty": "match"},
        {"class_vectors": "image", "images": "patches"},
        {"class_vectors": "both", "images": "patches", "words": "gru", "mfe": False},
    ],
    "cmfg": [
        *(
            {"edges": edges, "residual": residual, "layers": layers}
            for edges, residual, layers in product(("both", "intra", "cross"), (True, False), (1, 3))
        ),
        *({"softmax": "apart", "layers": layers} for layers in (1, 3)),
        {"softmax": "apart", "edges": "intra"},
        *({"renew_edges": False, "edges": edges} for edges in ("intra", "cross")),
        {"renew_edges": False, "layers": 3, "residual": False},
        {"unit_nodes": False},
        {"image_nodes": 9},
        {"region_encoder": "linear+mlp", "image_nodes": 2, "unit_nodes": False},
        {"image_nodes": 1, "edges": "intra", "words": "gru"},
        {"query": 20},
        {"words": "gru"},
        {"words": "bert+gru"},
    ],
    "scl": [
        {"layers": 1, "heads": 1},
        {"layers": 3, "heads": 4, "width": 12, "embed": 5},
        {"backup": False},
        {"backup": False, "loss": "printed"},
        {"loss": "printed"},
        {"contrast_temperature": 0.5, "label_overlap": 0.3},
        {"text_positives": "labels"},
        {"text_positives": "labels", "label_overlap": 0.7},
        {"text_positives": "labels", "loss": "printed", "words": "learned"},
        {"inputs": "pooled", "text_positives": "labels"},
        {"freeze_encoders": False},
        {"freeze_encoders": False, "text_epochs": 0, "image_epochs": 0},
        {"class_vectors": "text", "images": "regions"},
        {"class_vectors": "image", "words": "learned"},
        {"class_vectors": "image", "region_encoder": "linear+mlp", "backup": False},
        {"inputs": "pooled", "layers": 1, "width": 5},
        {"inputs": "pooled", "backup": False, "loss": "printed"},
        {"inputs": "pooled", "text_epochs": 0, "image_epochs": 0},
    ],
    "chan": [
        {"pool": "lse", "lse_sharpness": 4.0, "self_attention": False},
        {"words": "bert+gru", "heads": 3},
        {"region_encoder": "linear+mlp"},
    ],
    "vseinf": [
        {"region_encoder": "linear"},
        {"words": "bert"},
        {"pooling": "mean", "region_encoder": "linear"},
        {"pooling": "top2", "heads": 4, "words": "bert+gru"},
        {"pooling": "esa", "region_encoder": "linear"},
    ],
    "rcar": [
        {"steps": 1},
        {"steps": 3},
        {"steps": 3, "regulators": "rcr", "words": "bert+gru", "images": "patches"},
        {"regulators": "rar", "steps": 1, "words": "bert"},
        {"sharpness_t2i": 4.0, "sharpness_i2t": 12.0},
    ],
    "laps": [
        {"caption_chooses": False},
        {"words": "bert+gru", "keep": 0.1},
        {"class_vectors": "image", "keep": 1.0, "images": "patches"},
    ],
    "vsepp": [{"words": "bert+gru"}, {"region_encoder": "linear+mlp"}],
}

# Methods whose members differ in one formula alone: the first of them stands for all, but with the defaults.
ALIKE = ("mpsm",)

SETTINGS = {name: some + REST[name] for name, some in HANDFUL.items()}


def named(settings: Settings) -> str:
    return ",".join(f"{key}={value}" for key, value in settings.items()) or "default"


def config_of(name: str, settings: Settings | None = None) -> Any:
    """The Config of a method in tiny sizes, without dropout."""
    kind = method(name).Config
    known = kind.__dataclass_fields__
    tiny = {key: value for key, value in SIZES.items() if key in known} | {key: 0 for key in known if "dropout" in key}
    return kind(**(tiny | BESIDE.get(name, {}) | preset(name) | (settings or {})))


def cases(chosen: dict[str, list[Settings]] = SETTINGS) -> list[tuple[str, str, Settings]]:
    """(method, member, settings) of every registered method and member, for `chosen` settings or its defaults."""
    return [
        (name, member, settings)
        for name in METHODS
        for settings in chosen.get(name, [{}])
        for member in list(method(name).members(config_of(name, settings)))[: 1 if settings and name in ALIKE else None]
    ]
