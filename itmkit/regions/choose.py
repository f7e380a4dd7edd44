"""Which model extracts the regions, and why: options, workspace.toml, the cache that is there, or a default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from itmkit.cache import MadeBy, read_manifest
from itmkit.cache.parts import parts_in
from itmkit.dataset import Dataset
from itmkit.errors import ItmkitError
from itmkit.files import digest, sha256_file
from itmkit.regions.regions import Regions
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from PIL import Image

STAGE = "extract-regions"
BackendName = Literal["detector", "grid"]
BACKENDS: tuple[BackendName, ...] = ("detector", "grid")
# By revision: the main one of this model takes its backbone from timm, which is not installed with itmkit.
DEFAULT_DETECTOR = "facebook/detr-resnet-50@no_timm"
SCENES = "scenes-detector"  # the name under which the shipped detector can be asked for
REGIONS = 36


class Backend(Protocol):
    """A loaded model that gives the regions of pictures. What it gives for one does not depend on the others."""

    @property
    def sha256(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def names(self) -> list[str]: ...

    def detect(
        self, images: Sequence[Image.Image], *, regions: int, labels: Sequence[str] | None, batch: int
    ) -> list[Regions]: ...


@dataclass(frozen=True)
class Choice:
    """Settings of one extraction.

    `why` is said to the user. `named`: the user chose the model, so the hub may be asked for it. `settled`: nothing
    was asked for, and the cache that is there was made from this data set with these settings.
    """

    backend: BackendName
    model: str
    regions: int
    size: int | None
    why: str
    named: bool
    settled: bool = False


def choose(
    workspace: Workspace,
    dataset: Dataset,
    *,
    backend: str | None,
    model: str | None,
    regions: int | None,
    size: int | None,
) -> Choice:
    """Completes the options given.

    What is not given comes from workspace.toml `[extract-regions]`, else from the cache that is there, else: for
    scenes the shipped detector, for photographs DETR.

    Raises:
        ItmkitError: with every setting that does not exist or does not fit.
    """
    given: dict[str, Any] = {"backend": backend, "model": model, "regions": regions, "size": size}
    options = {key: value for key, value in given.items() if value is not None}
    table = workspace.settings(STAGE)
    problems = [
        f"workspace.toml: [{STAGE}] has no setting {key!r} ({', '.join(given)})" for key in table if key not in given
    ]
    source, why, settled = _merged(workspace, dataset, options, table)
    name, model, size = source.get("backend", "detector"), source.get("model"), source.get("size")
    regions = source.get("regions", REGIONS)
    if name not in BACKENDS:
        problems.append(f"backend {name!r}: there is {' and '.join(BACKENDS)}")
    if not isinstance(regions, int) or isinstance(regions, bool) or not 1 <= regions <= 1000:
        problems.append(f"regions is {regions!r}; a whole number from 1 to 1000 is needed")
    if size is not None and (not isinstance(size, int) or not 32 <= size <= 4096):
        problems.append(f"size is {size!r}; a number of pixels from 32 to 4096 is needed")
    if size is not None and name == "detector":
        problems.append("size is a setting of the grid backend; a detector scales pictures as its own settings say")
    if model is not None and not isinstance(model, str):
        problems.append(f"model is {model!r}; a path or a hub name is needed")
    if name == "grid" and model is None:
        problems.append(
            "--backend grid needs --model: the path or hub name of a vision model (MobileNetV2, ResNet, ...)"
        )
    if problems:
        raise ItmkitError(problems)
    named = model != SCENES and ("model" in options or (source.get("model") == table.get("model") is not None))
    if model is None:
        model = SCENES if dataset.kind == "scenes" else DEFAULT_DETECTOR
        why = "the detector shipped for scenes" if model == SCENES else "the default for photographs"
    assert isinstance(model, str) and isinstance(regions, int)
    return Choice(name, _local(workspace, model), regions, size, why, named, settled)


def _merged(
    workspace: Workspace, dataset: Dataset, options: dict[str, Any], table: dict[str, Any]
) -> tuple[dict[str, Any], str, bool]:
    """(settings, why these, whether they are exactly those of the cache that is there)."""
    which = {"backend", "model"}
    if options.keys() & which:
        if "backend" in options and options["backend"] != table.get("backend"):
            table = {
                key: value for key, value in table.items() if key == "regions"
            }  # the rest is for the other backend
        return table | options, "as asked for", False
    if table.keys() & which:
        return table | options, "as workspace.toml says", False
    earlier, current = _earlier(workspace, dataset)
    if earlier:
        return earlier | table | options, "as the cache was begun", current and not options and not table
    return table | options, "by default", False


def _local(workspace: Workspace, model: str) -> str:
    """The absolute path of a local model, also where it is given relative to the workspace; else the name as it is."""
    for path in (Path(model).expanduser(), workspace.root / model):
        if model != SCENES and path.is_dir():
            return str(path.resolve())
    return model


def _earlier(workspace: Workspace, dataset: Dataset) -> tuple[dict[str, Any], bool]:
    """The settings of an extraction in the workspace, finished or not, and whether it is complete and of this data."""
    folder = workspace.cache("regions")
    manifest = read_manifest(folder) or next(
        (read_manifest(folder, part.manifest_name) for part in parts_in(folder)), None
    )
    if manifest is None or manifest.made_by.stage != STAGE:
        return {}, False
    found = {key: manifest.made_by.settings.get(key) for key in ("backend", "regions", "size")}
    found["model"] = manifest.notes.get("model")
    if found["model"] == SCENES and dataset.kind != "scenes":
        return {}, False  # other data has come into the workspace since
    current = manifest.complete and not parts_in(folder) and not workspace.stale_inputs("regions", manifest, dataset)
    return {key: value for key, value in found.items() if value is not None}, current


def load(choice: Choice, *, device: str, download: bool) -> Backend:
    """Loads the model; the hub is asked only where the user named a model or allowed it."""
    allow = download or choice.named
    if choice.backend == "grid":
        from itmkit.regions.grid import load_grid

        return load_grid(choice.model, size=choice.size, device=device, allow_download=allow)
    from itmkit.regions.detector import SCENES_DETECTOR, load_detector

    model = str(SCENES_DETECTOR) if choice.model == SCENES else choice.model
    return load_detector(model, device=device, allow_download=allow)


def made_by(choice: Choice, backend: Backend, inputs: dict[str, str]) -> MadeBy:
    """What the cache records; caches of equal records are interchangeable.

    The place of a local model is no part of it, its name, weights and configuration are.
    """
    settings: dict[str, Any] = {"backend": choice.backend, "regions": choice.regions}
    if choice.size is not None:
        settings["size"] = choice.size
    local = Path(choice.model)
    model = {
        "id": local.name if local.is_dir() else choice.model,
        "sha256": backend.sha256,
        "settings_sha256": _settings_digest(choice),
    }
    return MadeBy(STAGE, settings, model, inputs)


def _settings_digest(choice: Choice) -> str:
    """Digest of the files that say how pictures are scaled and what the layers are."""
    from itmkit.regions.detector import SCENES_DETECTOR
    from itmkit.regions.hub import find_model

    model = str(SCENES_DETECTOR) if choice.model == SCENES else choice.model
    folder = find_model(model, allow_download=False)
    names = ("config.json", "preprocessor_config.json")
    return digest({name: sha256_file(folder / name) for name in names if (folder / name).is_file()})
