"""Grounding DINO and MM Grounding DINO: names in prompts, compared with the processor's own reading of the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from itmkit.errors import ItmkitError
from itmkit.regions.any_detector import load_any_detector
from itmkit.regions.best import Boxes, best_regions
from itmkit.regions.grounding import CLASSES, GroundedDetector, make_prompts
from itmkit.regions.open_vocabulary import NMS
from tests.regions.test_detector import pictures, prepared
from tests.regions.tiny_dinos import LIMIT, MEAN, STD, build_dino

FITTING = ["cat", "red ball", "sheepdog", "house"]  # 12 tokens with what stands around them


@dataclass
class Loaded:
    """One tiny model, loaded by itmkit and, as it is, by transformers."""

    detector: GroundedDetector
    model: Any
    tokenizer: Any

    def asked(self, *names: str) -> GroundedDetector:
        ends = self.model.model.special_tokens.tolist()
        return replace(
            self.detector, names=list(names), prompts=make_prompts("dino", self.tokenizer, ends, names, LIMIT)
        )


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Loaded]:
    found = {}
    for kind, name in CLASSES.items():
        folder = build_dino(tmp_path_factory.mktemp("dino"), kind=kind)
        detector = load_any_detector(str(folder), FITTING, device="cpu", allow_download=False)
        assert isinstance(detector, GroundedDetector)
        model = getattr(transformers, name).from_pretrained(folder).eval()
        found[kind] = Loaded(detector, model, transformers.AutoTokenizer.from_pretrained(folder))
    return found


def pixels(image: Image.Image) -> torch.Tensor:
    """The shorter side to 64 pixels, or the longer one to 96 where it would be longer; normalised."""
    scale = min(64 / min(image.size), 96 / max(image.size))
    small = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    values = (np.asarray(small, np.float32) / 255 - np.array(MEAN)) / np.array(STD)
    return torch.tensor(values, dtype=torch.float32).permute(2, 0, 1)[None]


def literal(loaded: Loaded, prompts: list[list[str]], image: Image.Image) -> tuple[list[str], Boxes]:
    """What the processor of transformers makes of one forward pass for each prompt: the best tokens, and the boxes."""
    model, tokenizer = loaded.model, loaded.tokenizer
    processor = transformers.GroundingDinoProcessor(transformers.GroundingDinoImageProcessorPil(), tokenizer)
    scores, tokens, boxes, states = [], [], [], []
    for names in prompts:
        text = tokenizer(". ".join(names) + ".", return_tensors="pt")
        with torch.no_grad():
            output = model(pixel_values=pixels(image), **text)
        # Full stops and frames have logits too, of which no name is made.
        between = torch.isin(text["input_ids"][0], torch.tensor([101, 102, 1012]))
        output.logits[..., : len(between)][..., between] = -torch.inf
        (found,) = processor.post_process_grounded_object_detection(
            output, text["input_ids"], threshold=-1.0, target_sizes=[image.size[::-1]]
        )
        for query, score in enumerate(found["scores"]):  # a threshold just below lets the best token through alone
            (one,) = processor.post_process_grounded_object_detection(
                output, text["input_ids"], threshold=-1.0, text_threshold=float(score) - 1e-7
            )
            tokens.append(one["text_labels"][query])
        scores.append(found["scores"])
        boxes.append(found["boxes"])
        states.append(output.last_hidden_state[0])
    corners = torch.cat(boxes).numpy() / np.array([*image.size, *image.size], np.float32)
    middle = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
    every = Boxes(torch.cat(scores).numpy(), np.arange(len(tokens)), middle, torch.cat(states).numpy())
    return tokens, every


@pytest.mark.parametrize("kind", CLASSES)
def test_regions_are_those_of_transformers_own_post_processing(loaded: dict[str, Loaded], kind: str) -> None:
    (image,) = pictures((80, 60))
    for prompts in ([FITTING], [["cat", "red ball", "red cube"], ["a sheepdog", "ball", "a dog"]]):
        detector = loaded[kind].asked(*chain(*prompts))
        tokens, every = literal(loaded[kind], prompts, image)
        wanted = best_regions(every, image.size, [str(at) for at in range(len(tokens))], most=50, nms=NMS)
        (found,) = detector.detect(prepared(detector, [image]), regions=50)
        assert len(found) == len(wanted) > 20
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
        np.testing.assert_allclose(found.boxes, wanted.boxes, atol=1e-2)
        np.testing.assert_allclose(found.features, wanted.features, atol=1e-4)
        assert len(set(found.tags)) > 2
        for tag, query in zip(found.tags, wanted.tags, strict=True):
            assert tag in prompts[int(query) // 30] and tokens[int(query)].replace("##", "") in tag


def test_the_backbones_run_once_a_picture_and_once_a_prompt(loaded: dict[str, Loaded]) -> None:
    detector = loaded["grounding-dino"].asked("cat", "cube", "red cube", "a cat", "a sheepdog", "ball")
    calls = {"picture": 0, "text": 0}

    def count(what: str) -> Any:
        return lambda *_: calls.update({what: calls[what] + 1})

    network = detector.model.model
    network.backbone.conv_encoder.register_forward_hook(count("picture"))
    network.text_backbone.encoder.register_forward_hook(count("text"))
    images = pictures((80, 60), (80, 60), (60, 80))
    together = detector.detect(prepared(detector, images), regions=9, batch=1)
    assert calls == {"picture": 3, "text": 2} and len(detector.prompts) == 2
    again = detector.detect(prepared(detector, images), regions=9, batch=2)
    assert calls == {"picture": 5, "text": 2}
    for one, other in zip(together, again, strict=True):  # whatever pictures stand beside it
        assert one.tags == other.tags
        np.testing.assert_allclose(one.features, other.features, atol=1e-4)


def test_the_order_of_names_in_a_prompt_does_not_matter_but_what_is_asked_together_does(
    loaded: dict[str, Loaded],
) -> None:
    found = []
    for names in (FITTING, FITTING[::-1], FITTING[:2]):
        detector = loaded["grounding-dino"].asked(*names)
        found += detector.detect(prepared(detector, pictures((80, 60))), regions=12)
    one, other, fewer = found
    assert one.tags == other.tags
    np.testing.assert_allclose(one.features, other.features, atol=1e-4)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    assert np.abs(one.features[0] - fewer.features).max(1).min() > 1e-3


def test_names_fill_prompts_in_their_order(loaded: dict[str, Loaded]) -> None:
    names = ["cat", "a red ball", "red red", "CAT", "house", "a a a a a a a a a"]
    prompts = loaded["grounding-dino"].asked(*names).prompts
    assert [prompt.ids for prompt in prompts] == [
        [101, 200, 1012, 205, 202, 203, 1012, 202, 202, 1012, 102],
        [101, 209, 1012, 102],
        [101, *[205] * 9, 1012, 102],
    ]
    # "CAT" is "cat" to the tokeniser; the first of the two counts.
    assert [prompt.names for prompt in prompts] == [[0, 1, 1, 1, 2, 2], [4], [5] * 9]
    assert [prompt.places for prompt in prompts] == [[1, 3, 4, 5, 7, 8], [1], list(range(1, 10))]


def test_a_processor_that_makes_no_mask_gives_the_same_regions(loaded: dict[str, Loaded]) -> None:
    detector, images = loaded["grounding-dino"].asked("cat", "dog"), pictures((96, 64))
    padding = detector.processor.do_pad
    (masked,) = detector.detect(prepared(detector, images), regions=4)
    detector.processor.do_pad = False
    try:
        assert "pixel_mask" not in detector.prepare(images[0]).inputs
        (found,) = detector.detect(prepared(detector, images), regions=4)
    finally:
        detector.processor.do_pad = padding
    np.testing.assert_array_equal(found.boxes, masked.boxes)


def test_what_is_refused(loaded: dict[str, Loaded]) -> None:
    one = loaded["grounding-dino"]
    with pytest.raises(ItmkitError, match=r"takes 12 tokens, and 1 names of the vocabulary have more: a a a a"):
        one.asked("cat", "a a a a a a a a a a")
    with pytest.raises(ItmkitError, match=r"2 names of the vocabulary have a full stop.*: st\. house, cat\?"):
        one.asked("cat", "st. house", "cat?")
    with pytest.raises(ItmkitError, match="tokeniser does not fit it"):
        make_prompts("dino", one.tokenizer, [1, 2, 3, 4], ["cat"], LIMIT)
    with pytest.raises(ItmkitError, match=r"picture 0: is too narrow .*200 x 4 pixels.*30 of the cells"):
        one.detector.detect(prepared(one.detector, pictures((200, 4))))
