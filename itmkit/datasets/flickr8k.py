"""Flickr8k as its authors distribute it: a token file with five captions an image, and a list of images per split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from itmkit.dataset import Caption
from itmkit.datasets.draft import Draft
from itmkit.datasets.prepared import PreparedDataset
from itmkit.datasets.skip import NOTHING, Problems, Skip, readable_lines
from itmkit.datasets.write import write_drafts
from itmkit.errors import ItmkitError
from itmkit.progress import SILENT, Progress
from itmkit.workspace import Workspace

TOKENS = "Flickr8k.token.txt"
LISTS = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}
# Where the pictures lie, beside the token file or beside its folder. "Flicker" is how the archive spells it.
FOLDERS = ("images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset/Flicker8k_Dataset", "Flickr8k_Dataset")


def prepare_flickr8k(
    workspace: Workspace,
    folder: Path,
    *,
    images: Path | None = None,
    captions: int | None = 5,
    skip: Skip = NOTHING,
    force: bool = False,
    progress: Progress = SILENT,
) -> PreparedDataset:
    """Reads the folder with `Flickr8k.token.txt` and the split lists and writes the workspace's data set.

    An image's id is its file name, a caption's id is what the token file writes: `name.jpg#0`. Split lists may be
    missing as long as there is one; images that are in no list are left out.

    Args:
        images: the folder of the pictures. If None, it is found by its usual names.
        captions: how many of an image's captions are taken, in file order; None takes all.

    Raises:
        ItmkitError: everything that is wrong with the files and the pictures, in one error.
    """
    lists = {split: folder / name for split, name in LISTS.items() if (folder / name).is_file()}
    wrong = [] if (folder / TOKENS).is_file() else [f"{folder / TOKENS}: no such file"]
    others = [*sorted(folder.glob("results*.token")), folder / "captions.txt"]  # of Flickr30k, and Kaggle's
    other = next((path for path in others if path.is_file()), None)
    if wrong and other is not None:
        raise ItmkitError(f"{wrong[0]}; {other.name} can be read with `itmkit prepare csv {other} --images DIR`")
    if not lists:
        wrong.append(f"{folder}: has no split list ({', '.join(LISTS.values())})")
    pictures = images or next((p for p in _places(folder) if p.is_dir()), None)
    if pictures is None:
        wrong.append(f"{folder}: no folder of pictures found ({', '.join(FOLDERS)}); name it with --images")
    if wrong or pictures is None:
        raise ItmkitError(wrong)

    problems = Problems()
    texts = _read_tokens(folder / TOKENS, problems)
    drafts = _read_lists(lists, texts, pictures, problems)
    unlisted = texts.keys() - {draft.id for draft in drafts}
    notes = [f"{len(unlisted)} images of {TOKENS} are in no split list and left out"] if unlisted else []
    return write_drafts(
        workspace,
        drafts,
        problems,
        kind="flickr8k",
        settings={"captions": captions},
        captions=captions,
        notes=notes,
        skip=skip,
        force=force,
        progress=progress,
    )


def _read_lists(
    lists: dict[str, Path], texts: dict[str, dict[str, str]], pictures: Path, problems: Problems
) -> list[Draft]:
    """The images of the split lists {split: list} with their captions."""
    drafts: list[Draft] = []
    listed: dict[str, str] = {}
    for split, path in lists.items():
        for number, line in readable_lines(path, problems):
            name, place = line.strip(), f"{path}: line {number}"
            if not name:
                continue
            if name in listed:
                if listed[name].startswith(f"{path}: "):  # the same list twice says nothing else
                    problems.repeated += 1
                else:
                    problems.damaged.append(f"{place}: {name} is listed before, at {listed[name]}")
                continue
            listed[name] = place
            found = [Caption(f"{name}#{n}", text) for n, text in texts.get(name, {}).items()]
            drafts.append(Draft(name, split, [pictures / name], found, place))
    return drafts


def _places(folder: Path) -> Iterator[Path]:
    yield from (folder / name for name in FOLDERS)
    yield from (folder.absolute().parent / name for name in FOLDERS if name.startswith("Flick"))


def _read_tokens(path: Path, problems: Problems) -> dict[str, dict[str, str]]:
    """{image name: {caption number: text}}, in file order."""
    texts: dict[str, dict[str, str]] = {}
    for number, line in readable_lines(path, problems):
        if not line.strip():
            continue
        key, tab, text = line.partition("\t")
        name, mark, count = key.strip().rpartition("#")
        if not (tab and mark and name and count.isdecimal()):
            what = f"expected NAME#NUMBER, a tab and the caption, found {line[:60]!r}"
            problems.damaged.append(f"{path}: line {number}: {what}")
        elif texts.setdefault(name, {}).get(count) == text.strip():
            problems.repeated += 1
        elif count in texts[name]:
            problems.damaged.append(f"{path}: line {number}: {key} occurs twice")
        else:
            texts[name][count] = text.strip()
    return texts
