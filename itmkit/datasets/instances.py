"""COCO's instances files: what is seen in an image, and what that is a kind of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from itmkit.datasets.draft import Draft
from itmkit.datasets.fields import integer_or_string, list_of_objects, string
from itmkit.datasets.skip import Problems
from itmkit.files import read_json


def add_categories(files: Sequence[Path], drafts: Mapping[str, Draft], problems: Problems) -> None:
    """Sets labels and super-categories: the categories of an image's instances, each once, in the order of the files.

    Categories need no super-category: files in COCO's layout often lack them.

    Args:
        drafts: the images by COCO's image id; the files may describe more images than these.
    """
    names: dict[str, str] = {}
    above: dict[str, str] = {}
    found: dict[str, set[str]] = {}
    for file in files:
        content = read_json(file)
        known = 0
        for place, entry in list_of_objects(content, "categories", str(file), problems.files):
            id = integer_or_string(entry, "id", place, problems.damaged)
            names.setdefault(id, string(entry, "name", place, problems.damaged))
            if entry.get("supercategory") is not None:
                above.setdefault(id, string(entry, "supercategory", place, problems.damaged).strip())
        for place, entry in list_of_objects(content, "annotations", str(file), problems.files, problems.damaged):
            image = integer_or_string(entry, "image_id", place, problems.damaged)
            category = integer_or_string(entry, "category_id", place, problems.damaged)
            if image and category and category not in names:
                problems.damaged.append(f"{place}: category {category!r} is not among the categories")
            elif image in drafts:
                known += 1
                found.setdefault(image, set()).add(category)
        if not known:
            problems.files.append(f"{file}: describes none of these images; does it belong to these captions?")
    order = {id: place for place, id in enumerate(names)}
    for image, categories in found.items():
        mine = sorted((one for one in categories if names.get(one)), key=order.__getitem__)
        drafts[image].labels = tuple(names[category] for category in mine)
        kinds = dict.fromkeys(above.get(category, "") for category in mine)
        drafts[image].supercategories = tuple(kind for kind in kinds if kind)
