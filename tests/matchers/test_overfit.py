"""Every method can learn: 16 random pairs by heart."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from itmkit.matchers import METHODS, as_matcher, begin, build, loss, stages
from itmkit.matchers.parts.losses import triplet_loss
from tests.matchers.batches import SIZES, image_batch, text_batch
from tests.matchers.settings import config_of

NO_TRAINING = ("dual",)
SCENES = ("mpsm", "glfn", "pfan", "scan", "mefn", "scl", "rcar")  # by heart in `test_influence.py`
SMALL: dict[str, dict[str, Any]] = {
    "sgraf": {"word": 16, "similarity": 16, "plain_start": True},
    "laps": {"keep": 0.8, "aggregate": 0.6},
}
STEPS = 400


@pytest.mark.parametrize("name", [name for name in METHODS if name not in (*NO_TRAINING, *SCENES)])
def test_sixteen_random_pairs_by_heart(name: str) -> None:
    config = config_of(name, {"embed": 32} | SMALL.get(name, {}))
    images, texts, own = image_batch([4] * 16), text_batch([3, 4, 5, 6] * 4), torch.arange(16)
    triplet = partial(triplet_loss, image_of=own, margin=0.2, negatives="soft")
    (stage,) = stages(name, config, 1)
    for member, matcher in build(name, config, sizes=SIZES, seed=0).items():
        begin(matcher, stage.name)
        optimizer, parts = torch.optim.Adam(matcher.parameters(), lr=1e-2), as_matcher(matcher)
        for step in range(STEPS):
            matcher.train()
            optimizer.zero_grad()
            loss(matcher, images, texts, own, triplet, stage.name).total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if step % 10 == 9:
                matcher.eval()
                with torch.no_grad():
                    found = parts.score(parts.encode_images(images), parts.encode_texts(texts))
                if torch.equal(found.argmax(0), own) and torch.equal(found.argmax(1), own):
                    break
        else:
            pytest.fail(f"{member}: after {STEPS} steps {found.argmax(0)}, {found.argmax(1)}")
