"""A trained matcher, opened from a run's folder or an export: scores of any pictures with any captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from PIL import Image

from itmkit.errors import ItmkitError
from itmkit.inputs.batch import ImageBatch
from itmkit.inputs.needs import Needs
from itmkit.inputs.vocabulary import Vocabulary
from itmkit.machine.device import usable_device
from itmkit.matchers import as_matcher, method
from itmkit.runs.facts import CONFIG, VOCABULARY, RunFacts
from itmkit.runs.hub import PREFIX, fetch
from itmkit.runs.open import read_members
from itmkit.runs.settings import RunConfig, read_config
from itmkit.scoring.matrix import ensemble_of
from itmkit.scoring.tiles import IMAGE_TILE, WORDS_TILE
from itmkit.trained.cached import CachedPictures
from itmkit.trained.encoded import AnyImage, EncodedImages, EncodedTexts
from itmkit.trained.explain import Explanation, explain
from itmkit.trained.made import Made
from itmkit.trained.pictures import NewPictures, PictureRows, look
from itmkit.trained.texts import NewTexts
from itmkit.workspace import Workspace


class Matcher:
    """A trained matcher. Models that read pictures and captions are loaded when they are first needed.

    Use it in a `with` statement, or call `close` in the end: pictures are decoded in a process of their own.

    Attributes:
        name: of the run; method: its method; members: its networks by name; weights: of the members in the mean.
        workspace: that of the run, whose image ids may be given instead of pictures; None of an export.
    """

    def __init__(
        self, folder: Path, config: RunConfig, facts: RunFacts, *, device: str, models: Mapping[str, str]
    ) -> None:
        self.name, self.folder, self.method, self.device = folder.name, folder, config.method, torch.device(device)
        module = method(config.method)
        self.needs: Needs = module.needs(config.matcher).of_scores
        self.weights: dict[str, float] = module.members(config.matcher)
        self.vocabulary = Vocabulary.read(folder / VOCABULARY) if self.needs.words else None
        self.sizes, self.members = read_members(folder, config, facts, self.device)
        for network in self.members.values():
            network.eval()
        self.made = Made(folder, facts.caches, models)
        self.texts = NewTexts(self.made, self.needs, self.vocabulary, device)
        self.pictures = NewPictures(self.made, self.needs, device)
        home = Workspace(folder.parent.parent)
        in_workspace = folder.parent.name == "runs" and home.dataset_path.is_file()
        self.workspace = home if in_workspace else None
        self._cached = CachedPictures(self.workspace, self.needs, self.made) if self.workspace is not None else None

    def score(self, images: Sequence[AnyImage] | EncodedImages, texts: Sequence[str] | EncodedTexts) -> np.ndarray:
        """Scores of all images with all captions, higher for what belongs together.

        Scores tell better from worse for one image or one caption. They are no probabilities, and scores of different
        runs are not comparable.

        Args:
            images: paths, PIL images, or ids of the run's workspace; or what `encode_images` made of them.
            texts: captions; or what `encode_texts` made of them.

        Returns:
            (n, m) float32, the weighted mean of the members.

        Raises:
            ItmkitError: a picture cannot be read, or a model that made the caches of training is not to be had.
        """
        return np.asarray(ensemble_of(self.score_members(images, texts), self.weights), np.float32)

    def score_members(
        self, images: Sequence[AnyImage] | EncodedImages, texts: Sequence[str] | EncodedTexts
    ) -> dict[str, np.ndarray]:
        """As `score`, of each member by itself: {member: (n, m) float32}."""
        if not isinstance(images, EncodedImages):
            images = self.encode_images(images)
        if not isinstance(texts, EncodedTexts):
            texts = self.encode_texts(texts)
        found = {}
        with torch.inference_mode():
            for member, network in self.members.items():
                found[member] = np.empty((len(images), len(texts)), np.float32)
                for places, captions in texts.tiles:
                    for rows, regions in images.tiles:
                        scores = as_matcher(network).score(regions[member], captions[member])
                        found[member][rows, places] = scores.float().cpu().numpy()
        return found

    def encode_images(self, images: Sequence[AnyImage]) -> EncodedImages:
        """What depends on images alone, for scoring them again and again."""
        _several(images, "images")
        tiles, rows, names = [], [], [_name_of(image, place) for place, image in enumerate(images)]
        at = 0
        for some in self._alike(images):
            batch, found = self._image_batch(some)
            with torch.inference_mode():
                on_device = batch.to(self.device)
                encoded = {name: as_matcher(net).encode_images(on_device) for name, net in self.members.items()}
            tiles.append((slice(at, at + len(some)), encoded))
            rows.append(found)
            at += len(some)
        return EncodedImages(names, tiles, rows)

    def encode_texts(self, texts: Sequence[str]) -> EncodedTexts:
        """What depends on captions alone, for scoring them again and again."""
        _several(texts, "texts")
        batch = self.texts.batch(texts)
        lengths = batch.mask.sum(1).numpy()
        tiles = []
        for length in np.unique(lengths).tolist():
            same = np.flatnonzero(lengths == length)
            size = max(1, WORDS_TILE // max(1, length))
            for places in (same[start : start + size] for start in range(0, len(same), size)):
                # No caption of a tile is padded, just as in evaluation.
                some = batch.chosen(torch.from_numpy(places), int(length)).to(self.device)
                with torch.inference_mode():
                    tiles.append(
                        (places, {name: as_matcher(net).encode_texts(some) for name, net in self.members.items()})
                    )
        return EncodedTexts(list(texts), tiles)

    def _alike(self, images: Sequence[AnyImage]) -> Iterator[Sequence[AnyImage]]:
        """Cuts the images into tiles, ids of the workspace and pictures apart."""
        known = [self._is_id(image) for image in images]
        start = 0
        for place in range(1, len(images) + 1):
            if place == len(images) or known[place] != known[start] or place - start == IMAGE_TILE:
                yield images[start:place]
                start = place

    def _is_id(self, image: AnyImage) -> bool:
        return self._cached is not None and isinstance(image, str) and image in self._cached

    def _image_batch(self, images: Sequence[AnyImage]) -> tuple[ImageBatch, PictureRows]:
        if self._is_id(images[0]):
            assert self._cached is not None
            return self._cached.read([str(image) for image in images])
        pictures, problems = [], list[str]()
        for image in images:
            try:
                pictures.append(self.pictures.load(image))
            except ItmkitError as error:
                problems += error.problems
        if problems:
            raise ItmkitError(problems)
        rows = self.pictures.rows(pictures)
        return self.pictures.batch(rows), rows

    def explain(self, image: AnyImage, text: str) -> Explanation:
        """What the score of one image with one caption comes from. See `itmkit.trained.explain.Explanation`."""
        return explain(self, image, text)

    def block_attention(self, image: AnyImage) -> dict[str, np.ndarray]:
        """How much each region of an image attends to each block of the picture (GLFN, figure 7).

        Returns:
            {member: (R, M) float32}: the M blocks row by row, as many rows as columns; each region's sum to one, or
            are zeros where there is no such region. Empty for methods that know no blocks.
        """
        able = {name: getattr(network, "block_attention", None) for name, network in self.members.items()}
        blocks: dict[str, Callable[[ImageBatch], torch.Tensor | None]] = {
            name: hook for name, hook in able.items() if callable(hook)
        }
        if not blocks:
            return {}
        batch = self._image_batch([image])[0].to(self.device)
        with torch.inference_mode():
            found = {name: attention(batch) for name, attention in blocks.items()}
        return {name: each[0].float().cpu().numpy() for name, each in found.items() if each is not None}

    def picture(self, image: AnyImage) -> Image.Image:
        """The picture that the boxes of an explanation belong to: upright, RGB, at most 2,000 pixels a side.

        Raises:
            ItmkitError: it is gone, was changed or cannot be read, or only its features were imported.
        """
        if self._cached is not None and isinstance(image, str) and self._is_id(image):
            return look(*self._cached.file(image))
        return look(image)

    def close(self) -> None:
        """Ends the process that decodes pictures. The matcher can go on; the next picture starts another one."""
        self.pictures.close()

    def __enter__(self) -> Matcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_matcher(
    path: str | Path, *, device: str | None = None, models: Mapping[str, str | Path] | None = None
) -> Matcher:
    """Opens a trained matcher: the folder of a run, or what `itmkit export` made of one.

    Args:
        path: the folder; or "hf:owner/name", perhaps with "@revision", which fetches an export from the hub.
        device: as torch names it; None means cuda where there is one, else cpu.
        models: where the models of the caches lie now, by cache ("regions", "text", "words-bert"), if they moved since
            training. They must be the same ones: weights and settings are compared.

    Raises:
        ItmkitError: the folder holds no run, the run has no weights yet, or its files are damaged or of another
            run.
    """
    on_hub = isinstance(path, str) and path.startswith(PREFIX)
    folder = fetch(str(path)) if on_hub else Path(path).expanduser().resolve()
    if not RunFacts.exist(folder):
        raise ItmkitError(
            f"{path}: holds no run; name the folder of a run (WORKSPACE/runs/NAME), or one that `itmkit export` made"
        )
    facts = RunFacts.read(folder)
    facts.check_files(folder, CONFIG, VOCABULARY)
    config = read_config(folder / CONFIG)
    lacking = [file for name in facts.members if not (file := folder / f"best-{name}.safetensors").is_file()]
    if lacking:
        raise ItmkitError(f"{lacking[0]} is missing: the run has no weights yet; run `itmkit train` to its first epoch")
    places = {name: str(place) for name, place in (models or {}).items()}
    matcher = Matcher(folder, config, facts, device=usable_device(device), models=places)
    if on_hub:  # the folder is named after a commit
        matcher.name = str(path).removeprefix(PREFIX)
    return matcher


def _several(given: object, what: str) -> None:
    if isinstance(given, (str, Path, Image.Image)):
        raise TypeError(f"{what} is one {type(given).__name__}; give a list, also of one")
    if not isinstance(given, Sequence):
        raise TypeError(f"{what} is {type(given).__name__}; give a list")
    if not given:
        raise ValueError(f"{what} is empty; at least one is needed")


def _name_of(image: AnyImage, place: int) -> str:
    return f"picture {place + 1}" if isinstance(image, Image.Image) else str(image)
