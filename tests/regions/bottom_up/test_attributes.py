from __future__ import annotations

import numpy as np
import torch

from itmkit.regions.bottom_up.attributes import AttributeHead


def test_shapes_of_the_visual_genome_model() -> None:
    shapes = {name: tuple(value.shape) for name, value in AttributeHead().state_dict().items()}
    assert shapes == {
        "cls_embedding.weight": (1601, 256),
        "fc_attr.weight": (512, 2304), "fc_attr.bias": (512,),
        "attr_score.weight": (401, 512), "attr_score.bias": (401,),
    }  # fmt: skip


def test_formula() -> None:
    torch.manual_seed(0)
    head = AttributeHead(features=16, classes=5, attributes=3)
    features, logits = torch.randn(7, 16), torch.randn(7, 6)
    logits[2, 5] = 9  # the background has an embedding as well
    with torch.inference_mode():
        found = head.probabilities(features, logits).numpy()
    w = {name: value.numpy().astype(float) for name, value in head.state_dict().items()}
    for row in range(7):
        embedded = w["cls_embedding.weight"][int(logits[row].argmax())]
        joined = np.concatenate([features[row].numpy(), embedded])
        hidden = np.maximum(w["fc_attr.weight"] @ joined + w["fc_attr.bias"], 0)
        scores = (w["attr_score.weight"] @ hidden + w["attr_score.bias"])[:3]  # without "none", which is last
        np.testing.assert_allclose(found[row], np.exp(scores) / np.exp(scores).sum(), rtol=1e-4)
