from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from itmkit.dataset import Caption, ImageRecord
from itmkit.errors import ItmkitError
from itmkit.relevance.coco_ids import UNKNOWN, CocoIds, coco_ids

OWNERS = {31: 3, 32: 3, 11: 1, 12: 1, 51: 5, 52: 5}
ORDER = [31, 32, 11, 12, 51, 52]


def ground_truth(folder: Path, owners: object = None) -> Path:
    folder.mkdir(exist_ok=True)
    content = {str(caption): [image] for caption, image in OWNERS.items()} if owners is None else owners
    (folder / "original_caption_to_image.json").write_text(json.dumps(content))
    np.save(folder / "coco_test_ids.npy", np.array(ORDER))
    return folder


def image(id: str, *captions: str | tuple[str, str]) -> ImageRecord:
    made = [Caption(*c) if isinstance(c, tuple) else Caption(c, f"caption {c}") for c in captions]
    return ImageRecord(id, "test", tuple(made))


def annotations(path: Path, *entries: tuple[int, int, str]) -> Path:
    made = [{"id": id, "image_id": image, "caption": text} for id, image, text in entries]
    path.write_text(json.dumps({"annotations": made}))
    return path


def test_the_data_sets_own_ids(tmp_path: Path) -> None:
    """An id counts only for the image that it belongs to: 51 is no caption of image 1, 99 is none at all."""
    images = [
        image("1", "11", "12"),
        image("COCO_val2014_000000000003.jpg", "32"),
        image("5", "99", "51"),
        image("1000"),
    ]
    found = coco_ids(images, ground_truth(tmp_path))
    assert found.images.tolist() == [1, 3, 5, 1000] and found.captions.tolist() == [11, 12, 32, UNKNOWN, 51]
    assert coco_ids([image("1", "51", "11")], tmp_path).captions.tolist() == [UNKNOWN, 11]


def test_ids_of_something_else_name_the_other_ways(tmp_path: Path) -> None:
    for images in ([image("1", "1#0", "1#1")], [image("1", "31")], [image("f30k-4", "11")]):
        with pytest.raises(ItmkitError, match=r"none of the \d caption ids .*captions_val2014\.json.*testall_caps"):
            coco_ids(images, ground_truth(tmp_path))
    with pytest.raises(ItmkitError, match="no images"):
        coco_ids([], tmp_path)


def test_captions_by_image_and_text(tmp_path: Path) -> None:
    file = annotations(
        tmp_path / "captions_val2014.json",
        (12, 1, "A dog. \n"), (11, 1, "A dog."), (31, 3, "A dog."), (32, 3, "A  cat"), (77, 9, "A cow."),
    )  # fmt: skip
    images = [image("3", ("0", "A cat"), ("1", "A dog.")), image("1", ("2", "A dog."), ("3", "A  dog."), ("4", "New."))]
    found = coco_ids(images, ground_truth(tmp_path), captions=[file])
    assert found.images.tolist() == [3, 1]
    assert found.captions.tolist() == [32, 31, 11, 12, UNKNOWN]  # equal texts: the smallest id first
    with pytest.raises(ItmkitError, match="image ids such as 'testall-0' are not COCO's"):
        coco_ids([image("testall-0", "x")], tmp_path, captions=[file])
    with pytest.raises(ItmkitError, match="describes none of these images"):
        coco_ids([image("4", "x")], tmp_path, captions=[file])


def test_everything_wrong_with_the_caption_file(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text('{"annotations": [{"id": 1, "image_id": 1}, 3, {"id": "x", "image_id": 1, "caption": "a"}]}')
    with pytest.raises(ItmkitError) as caught:
        coco_ids([image("1", "x")], ground_truth(tmp_path), captions=[file])
    assert caught.value.problems == [
        f"{file}: annotations[0]: 'caption' is missing",
        f"{file}: annotations[1]: not an object",
        f"{file}: annotations[2]: id 'x' and image_id '1' are not COCO's numbers",
    ]


def test_captions_in_order(tmp_path: Path) -> None:
    """By the image where its id is COCO's, else all counted off."""
    ground_truth(tmp_path)
    images = [image("5", "5#0", "5#1"), image("3", "3#0", "3#1"), image("8", "8#0")]
    found = coco_ids(images, tmp_path, in_order=True)
    assert found.images.tolist() == [5, 3, 8] and found.captions.tolist() == [51, 52, 31, 32, UNKNOWN]
    images = [image(f"testall-{n}", f"{n}#0", f"{n}#1") for n in range(3)]
    found = coco_ids(images, tmp_path, in_order=True)
    assert found.images.tolist() == [3, 1, 5] and found.captions.tolist() == ORDER


def test_what_is_not_in_that_order(tmp_path: Path) -> None:
    ground_truth(tmp_path)
    missing = [image(f"testall-{n}", f"{n}#0", f"{n}#1") for n in range(2)]
    with pytest.raises(ItmkitError, match=r"has 6 captions of 3 images, this split 4 of 2.*testall_ids"):
        coco_ids(missing, tmp_path, in_order=True)
    with pytest.raises(ItmkitError) as caught:
        coco_ids([image("5", "a", "b", "c"), image("3", "d")], tmp_path, in_order=True)
    assert [problem.split(",")[0] for problem in caught.value.problems] == [
        "image '5' has 3 captions", "image '3' has 1 captions",
    ]  # fmt: skip
    with pytest.raises(ItmkitError, match="has none of the 1 images of this split, such as '8'"):
        coco_ids([image("8", "x")], tmp_path, in_order=True)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (np.array([31, 31]), "an annotation id twice"),
        (np.array([31.0]), "no list of whole numbers"),
        (np.array([[31]]), "no list of whole numbers"),
        (np.array([31, 999]), "1 of its ids, such as 999, are not in the ground truth"),
        (np.array([{"a": 1}], object), "cannot be read as .npy .*allow_pickle"),
        (b"text", "cannot be read as .npy"),
    ],
)
def test_orders_that_are_none(tmp_path: Path, order: np.ndarray | bytes, message: str) -> None:
    path = ground_truth(tmp_path) / "coco_test_ids.npy"
    if isinstance(order, bytes):
        path.write_bytes(order)
    else:
        np.save(path, order, allow_pickle=True)
    with pytest.raises(ItmkitError, match=message):
        coco_ids([image("3", "x", "y")], tmp_path, in_order=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "not an object of ids"),
        ([1], "not an object of ids"),
        ({"a": [1], "2": ["x"], "3": 4}, "'a' is not a COCO id.*'2': not a list of COCO ids.*'3': not a list"),
        ({"1": [2, 3]}, "a caption has several images"),
    ],
)
def test_ground_truth_that_is_none(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ItmkitError, match=f"(?s){message}"):
        coco_ids([image("1", "11")], ground_truth(tmp_path, content))


def test_the_files_of_the_ground_truth_may_have_a_prefix(tmp_path: Path) -> None:
    with pytest.raises(ItmkitError, match="needs one file original_caption_to_image.json, has none"):
        coco_ids([image("1", "11")], tmp_path)
    path = ground_truth(tmp_path) / "original_caption_to_image.json"
    content = path.read_text()
    path.rename(tmp_path / "eccv_original_caption_to_image.json")
    assert coco_ids([image("1", "11")], tmp_path).captions.tolist() == [11]
    (tmp_path / "other_original_caption_to_image.json").write_text(content)
    with pytest.raises(ItmkitError, match="has several"):
        coco_ids([image("1", "11")], tmp_path)


def precomp_images(test_data: Path, ids: bool = True) -> tuple[list[ImageRecord], CocoIds]:
    """COCO's 5,000 test images with the captions of testall_caps.txt, as import-features reads them; and their ids."""
    folder = test_data / "karpathy_splits_coco"
    order = np.load(folder / "eccv_coco_test_ids.npy", allow_pickle=False).tolist()
    owner = json.loads((folder / "eccv_original_caption_to_image.json").read_text())
    texts = (test_data / "precomp_captions/coco_precomp/testall_caps.txt").read_text(encoding="utf-8").splitlines()
    assert len(texts) == len(order) == 25_000
    images = []
    for n in range(5000):
        id = str(owner[str(order[5 * n])][0]) if ids else f"testall-{n}"
        images.append(ImageRecord(id, "test", tuple(Caption(f"{id}#{k}", texts[5 * n + k]) for k in range(5))))
    numbers = np.array([owner[str(id)][0] for id in order[::5]])
    return images, CocoIds(numbers, np.array(order), "")


@pytest.mark.parametrize("ids", [True, False])
def test_real_captions_in_order(test_data: Path, ids: bool) -> None:
    images, expected = precomp_images(test_data, ids)
    found = coco_ids(images, test_data / "karpathy_splits_coco", in_order=True)
    assert (found.images == expected.images).all() and (found.captions == expected.captions).all()
    if ids:  # then neither the order of the images nor whether all are there matters
        found = coco_ids(images[100:10:-1], test_data / "karpathy_splits_coco", in_order=True)
        assert (found.captions.reshape(-1, 5) == expected.captions.reshape(-1, 5)[100:10:-1]).all()


def test_real_captions_by_text_and_by_their_own_ids(tmp_path: Path, test_data: Path) -> None:
    """A caption file made of the same texts, in another order, gives every caption an id of its own text."""
    images, expected = precomp_images(test_data)
    texts = [caption.text for image in images for caption in image.captions]
    numbers = np.repeat(expected.images, 5).tolist()
    rows = list(zip(expected.captions.tolist(), numbers, texts, strict=True))
    file = annotations(tmp_path / "captions_val2014.json", *sorted(rows))
    found = coco_ids(images, test_data / "karpathy_splits_coco", captions=[file])
    text_of = {id: (number, " ".join(text.split())) for id, number, text in rows}
    assert [text_of[id][1] for id in found.captions.tolist()] == [" ".join(text.split()) for text in texts]
    assert sorted(found.captions.tolist()) == sorted(expected.captions.tolist())
    with_ids = [
        ImageRecord(
            image.id, "test", tuple(Caption(str(id), c.text) for id, c in zip(own, image.captions, strict=True))
        )
        for image, own in zip(images, expected.captions.reshape(-1, 5), strict=True)
    ]
    assert (coco_ids(with_ids, test_data / "karpathy_splits_coco").captions == expected.captions).all()
