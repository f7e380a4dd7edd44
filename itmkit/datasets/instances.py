"""COCO's instances files: what is seen in an image, and what that is a kind of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from itmkit.datasets.draft import Draft
from itmkit.datasets.fields import integer_or_string, objects_in, string
from itmkit.datasets.skip import Problems, unreadable_files


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
        with unreadable_files(problems):
            for place, entry in objects_in(file, "categories", problems.damaged):
                id = integer_or_string(entry, "id", place, problems.damaged)
                names.setdefault(id, string(entry, "name", place, problems.damaged))
                if entry.get("supercategory") is not None:
                    above.setdefault(id, string(entry, "supercategory", place, problems.damaged).strip())
            if not _add_instances(file, drafts, names, found, problems) and drafts:
                problems.files.append(f"{file}: describes none of these images; does it belong to these captions?")
    order = {id: place for place, id in enumerate(names)}
    for image, categories in found.items():
        mine = sorted((one for one in categories if names.get(one)), key=order.__getitem__)
        drafts[image].labels = tuple(names[category] for category in mine)
        kinds = dict.fromkeys(above.get(category, "") for category in mine)
        drafts[image].supercategories = tuple(kind for kind in kinds if kind)


def _add_instances(
    file: Path,
    drafts: Mapping[str, Draft],
    names: Mapping[str, str],
    found: dict[str, set[str]],
    problems: Problems,
) -> int:
    """Adds the categories of a file's instances to those found in each image; how many are of our images."""
    known = 0
    for place, entry in objects_in(file, "annotations", problems.damaged):
        image = integer_or_string(entry, "image_id", place, problems.damaged)
        category = integer_or_string(entry, "category_id", place, problems.damaged)
        if image and category and category not in names:
            problems.damaged.append(f"{place}: category {category!r} is not among the categories")
        elif image in drafts:
            known += 1
            found.setdefault(image, set()).add(category)
    return known
