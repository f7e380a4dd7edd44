"""Which model extracts the regions, and why: options, workspace.toml, the cache that is there, or a default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

from itmkit.cache import MadeBy
from itmkit.cache.anew import NEW
from itmkit.cache.begin import begun_manifest
from itmkit.cache.manifest import parts_in
from itmkit.dataset import Dataset
from itmkit.errors import ItmkitError
from itmkit.machine.device import Precision, check_precision, recorded
from itmkit.pictures.decode import Square
from itmkit.regions.any_detector import OPEN_DETECTORS, load_any_detector
from itmkit.regions.bottom_up.settings import BottomUpOptions, BottomUpSettings, check_files, resolve
from itmkit.regions.regions import ModelInput, Regions
from itmkit.regions.vg_vocabulary import names_to_find
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from PIL import Image
    from typing_extensions import Unpack

STAGE = "extract-regions"
BackendName = Literal["detector", "grid", "detectron2"]
BACKENDS: tuple[BackendName, ...] = ("detector", "grid", "detectron2")
BOTTOM_UP = tuple(field.name for field in fields(BottomUpOptions))  # settings of detectron2 only
# By revision: the main one of this model takes its backbone from timm, which is not installed with itmkit.
DEFAULT_DETECTOR = "facebook/detr-resnet-50@no_timm"
SCENES = "scenes-detector"  # the name under which the shipped detector can be asked for
REGIONS = 36


class Backend(Protocol):
    """A loaded model that gives the regions of pictures. What it gives for one does not depend on the others.

    `names` are its tags, as far as they are known; `attribute_names` likewise, None where it names no attributes.
    `square` is what it wants pictures squashed to, None where it takes them whole. `prepare` may run in any thread,
    several at a time; `detect` in one.
    """

    @property
    def sha256(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def names(self) -> list[str]: ...

    @property
    def attribute_names(self) -> list[str] | None: ...

    @property
    def square(self) -> Square | None: ...

    def prepare(self, image: Image.Image) -> ModelInput: ...

    def detect(
        self, prepared: Sequence[ModelInput], *, regions: int, labels: Sequence[str] | None, batch: int
    ) -> list[Regions]: ...


@dataclass(frozen=True)
class Choice:
    """Settings of one extraction.

    `why` is said to the user. `named`: the user chose the model, so the hub may be asked for it. `settled`: nothing
    was asked for, and the cache that is there was made from this data set with these settings.
    For an open-vocabulary detector: `vocabulary` is the file of the names to look for, None for those of Visual Genome;
    `names` are the names themselves where they are known already.
    """

    backend: BackendName
    model: str
    regions: int
    size: int | None
    precision: Precision
    why: str
    named: bool
    settled: bool = False
    bottom_up: BottomUpSettings | None = None
    vocabulary: Path | None = None
    names: tuple[str, ...] | None = None

    @property
    def notes(self) -> dict[str, str]:
        """Where the model lies: for a run without options, which goes on as the cache was begun."""
        vocabulary = {"vocabulary": str(self.vocabulary)} if self.vocabulary else {}
        return {"model": self.model} | vocabulary | (self.bottom_up.places if self.bottom_up else {})


class Options(TypedDict, total=False):
    """What may be asked for. Each option is also a setting of workspace.toml; None means it was not given."""

    backend: str | None
    model: str | None
    regions: int | None
    size: int | None
    precision: str | None
    config: str | Path | None
    vocabulary: str | Path | None
    selection: str | None
    min_regions: int | None


def choose(workspace: Workspace, dataset: Dataset, **given: Unpack[Options]) -> Choice:
    """Completes the options given.

    An option that is not given comes from workspace.toml `[extract-regions]`, else from the existing cache, else it has
    a default: the shipped detector for scenes, DETR for photographs.

    Raises:
        ItmkitError: every setting that does not exist or does not fit, in one error.
    """
    options = {key: value for key, value in given.items() if value is not None}
    table = workspace.settings(STAGE)
    problems: list[str] = []
    source, why, settled = _merged(workspace, dataset, options, table)
    _check(source, problems)
    name, model = source.get("backend", "detector"), source.get("model")
    bottom_up = _bottom_up(workspace, source, problems, settled=settled) if name == "detectron2" else None
    vocabulary = _vocabulary(workspace, source, problems, settled=settled) if name == "detector" else None
    if problems:
        raise ItmkitError(problems)
    named = model != SCENES and ("model" in options or (source.get("model") == table.get("model") is not None))
    if model is None:
        model = SCENES if dataset.kind == "scenes" else DEFAULT_DETECTOR
        why = "the detector shipped for scenes" if model == SCENES else "the default for photographs"
    return Choice(
        backend=name,
        model=_local(workspace, model),
        regions=source.get("regions", REGIONS),
        size=source.get("size"),
        precision=source.get("precision", "float32"),
        why=why,
        named=named,
        settled=settled,
        bottom_up=bottom_up,
        vocabulary=vocabulary,
    )


def _check(source: dict[str, Any], problems: list[str]) -> None:
    """What is wrong with settings by themselves and with each other; those of detectron2 are left to `_bottom_up`."""
    name, model, size = source.get("backend", "detector"), source.get("model"), source.get("size")
    exact: Any = source.get("precision", "float32")
    regions = source.get("regions", REGIONS)
    if name not in BACKENDS:
        problems.append(f"backend {name!r}: there are {', '.join(BACKENDS)}")
    if not isinstance(regions, int) or isinstance(regions, bool) or not 1 <= regions <= 1000:
        problems.append(f"regions is {regions!r}; a whole number from 1 to 1000 is needed")
    if size is not None and (not isinstance(size, int) or not 32 <= size <= 4096):
        problems.append(f"size is {size!r}; a number of pixels from 32 to 4096 is needed")
    check_precision(exact, problems)
    if exact in ("bfloat16", "float16") and name in ("detector", "detectron2"):
        problems.append(f"precision {exact}: with the grid backend only; boxes and their order would suffer")
    if size is not None and name in ("detector", "detectron2"):
        problems.append("size is a setting of the grid backend; a detector scales pictures as its own settings say")
    foreign = [key for key in BOTTOM_UP if source.get(key) is not None and (name, key) != ("detector", "vocabulary")]
    if name != "detectron2" and foreign:
        problems.append(f"{', '.join(foreign)}: for the detectron2 backend only; add --backend detectron2")
    if model is not None and not isinstance(model, str):
        problems.append(f"model is {model!r}; a path or a hub name is needed")
    if name == "grid" and model is None:
        problems.append(
            "--backend grid needs --model: the path or hub name of a vision model (MobileNetV2, ResNet, ...)"
        )


def _vocabulary(workspace: Workspace, source: dict[str, Any], problems: list[str], *, settled: bool) -> Path | None:
    """The file of the names that an open-vocabulary detector looks for, None if none is named."""
    value = source.get("vocabulary")
    if value is None:
        return None
    if not isinstance(value, (str, Path)):
        problems.append(f"vocabulary is {value!r}; a path is needed")
        return None
    path = Path(_local(workspace, str(value)))
    if not settled:  # of a finished cache, nothing is needed any more
        try:
            names_to_find(path)
        except ItmkitError as error:
            problems += error.problems
    return path


def _bottom_up(
    workspace: Workspace, source: dict[str, Any], problems: list[str], *, settled: bool
) -> BottomUpSettings | None:
    paths: dict[str, str | None] = {}
    for key in ("model", "config", "vocabulary"):
        value = source.get(key)
        if value is not None and not isinstance(value, (str, Path)):
            problems.append(f"{key} is {value!r}; a path is needed")
            value = None
        paths[key] = None if value is None else _local(workspace, str(value))
    regions = source.get("regions", REGIONS)
    settings = resolve(
        model=paths["model"],
        config=Path(paths["config"]) if paths["config"] else None,
        vocabulary=Path(paths["vocabulary"]) if paths["vocabulary"] else None,
        selection=source.get("selection"),
        min_regions=source.get("min_regions"),
        regions=regions if isinstance(regions, int) else REGIONS,
        problems=problems,
    )
    if settings and not settled:  # of a finished cache, nothing is needed any more
        check_files(settings, problems)
    return settings


def _merged(
    workspace: Workspace, dataset: Dataset, options: dict[str, Any], table: dict[str, Any]
) -> tuple[dict[str, Any], str, bool]:
    """(settings, why these, whether they are exactly those of the cache that is there)."""
    which = {"backend", "model"}
    if options.keys() & which:
        if "backend" in options and options["backend"] != table.get("backend", "detector"):
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
        if model != SCENES and path.exists():
            return str(path.resolve())
    return model


def _earlier(workspace: Workspace, dataset: Dataset) -> tuple[dict[str, Any], bool]:
    """The settings of an extraction in the workspace, finished or not, and whether it is complete and of this data."""
    folder = workspace.cache("regions")
    manifest = begun_manifest(folder)
    if manifest is None or manifest.made_by.stage != STAGE:
        return {}, False
    kept = ("backend", "regions", "size", "precision", "selection", "min_regions")
    found = {key: manifest.made_by.settings.get(key) for key in kept}
    found |= {key: manifest.notes.get(key) for key in ("model", "config", "vocabulary")}
    if found["model"] == SCENES and dataset.kind != "scenes":
        return {}, False  # the workspace holds other data now
    begun = bool(parts_in(folder)) or (folder / NEW).exists()
    current = manifest.complete and not begun and not workspace.stale_inputs("regions", manifest, dataset)
    return {key: value for key, value in found.items() if value is not None}, current


def load(choice: Choice, *, device: str, download: bool) -> Backend:
    """Loads the model; the hub is asked only where the user named a model or allowed it."""
    allow = download or choice.named
    if choice.bottom_up is not None:
        if choice.bottom_up.config is not None:
            from itmkit.regions.bottom_up.stock import load_stock

            return load_stock(choice.bottom_up, device=device)
        from itmkit.regions.bottom_up.backend import load_bottom_up

        return load_bottom_up(choice.bottom_up, device=device)
    if choice.backend == "grid":
        from itmkit.regions.grid import load_grid

        return load_grid(
            choice.model, size=choice.size, device=device, precision=choice.precision, allow_download=allow
        )
    from itmkit.regions.detector import SCENES_DETECTOR

    model = str(SCENES_DETECTOR) if choice.model == SCENES else choice.model
    names = choice.names or choice.vocabulary
    return load_any_detector(model, names, device=device, allow_download=allow)


def made_by(choice: Choice, backend: Backend, inputs: dict[str, str]) -> MadeBy:
    """What the cache records. Caches with equal records are interchangeable.

    The record holds a local model's name, weights and configuration, but not its place.
    """
    settings: dict[str, Any] = {"backend": choice.backend, "regions": choice.regions, **recorded(choice.precision)}
    if choice.size is not None:
        settings["size"] = choice.size
    if choice.bottom_up is not None:
        settings |= choice.bottom_up.recorded
    if isinstance(backend, OPEN_DETECTORS):
        settings |= backend.recorded
    local = choice.bottom_up.weights if choice.bottom_up else Path(choice.model)
    loaded: Any = backend  # of detectron2: a configuration may be based on others, which only the loaded model has seen
    model = {
        "id": local.name if local.exists() else choice.model,
        "sha256": backend.sha256,
        "settings_sha256": loaded.settings_sha256 if choice.bottom_up else _settings_digest(choice, backend),
    }
    return MadeBy(STAGE, settings, model, inputs)


def _settings_digest(choice: Choice, backend: Backend) -> str:
    """Digest of the files that say how pictures are scaled, what the layers are and, for names, how words are cut."""
    from itmkit.models.hub import find_model, settings_sha256
    from itmkit.regions.detector import SCENES_DETECTOR

    model = str(SCENES_DETECTOR) if choice.model == SCENES else choice.model
    folder = find_model(model, allow_download=False)
    return settings_sha256(folder, tokenizer=isinstance(backend, OPEN_DETECTORS))
