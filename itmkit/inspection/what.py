"""Finds out what a path is, and inspects the files that are no caches: data sets, runs, weights, metrics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from itmkit.cache.name import PIPELINE
from itmkit.dataset import Dataset
from itmkit.errors import ItmkitError, first_line
from itmkit.files import size_in_words, utf8_lines
from itmkit.inspection.caches import inspect_cache, inspect_hdf5
from itmkit.inspection.hdf5 import is_hdf5
from itmkit.inspection.indexes import inspect_index, is_index
from itmkit.inspection.report import Report, ReportTable, leaves, short
from itmkit.pictures.facts import Facts, all_picture_facts
from itmkit.progress import SILENT, Progress
from itmkit.runs.facts import CONFIG, VOCABULARY, RunFacts, evaluated_on
from itmkit.runs.records import FILE as METRICS
from itmkit.runs.records import records
from itmkit.status import status
from itmkit.typed import parse_json, read_strict_json, sealed
from itmkit.workspace import Workspace

RECALLS = ("R@1", "R@5", "R@10")
KNOWN = (
    "a workspace, a cache folder, an index, a shard or another HDF5 file, dataset.jsonl, a run folder,"
    " a .safetensors file, metrics.jsonl or another .jsonl or .json file of itmkit"
)


def inspect(path: Path, *, verify: bool = False, progress: Progress = SILENT) -> Report:
    """What the file or folder holds, in words.

    Args:
        verify: also compare content with recorded digests (cache shards; pictures of a data set). What differs is in
            the report's `problems`.

    Raises:
        ItmkitError: the path is missing, damaged, or nothing that itmkit knows.
    """
    if not path.exists():
        raise ItmkitError(f"{path}: no such file or folder")
    if path.is_dir():
        if is_index(path):
            return _nothing_to_verify(inspect_index(path), verify)
        if (path / "manifest.json").is_file():
            return inspect_cache(path, verify=verify)
        if RunFacts.exist(path):
            return inspect_run(path, verify=verify)
        if (path / "dataset.jsonl").is_file() or (path / "caches").is_dir():
            return inspect_workspace(Workspace(path), verify=verify, progress=progress)
        raise ItmkitError(f"{path}: not a folder of itmkit; known are {KNOWN}")
    if not path.is_file():
        raise ItmkitError(f"{path}: is not a regular file")
    if path.suffix.lower() in (".h5", ".hdf5") or is_hdf5(path):
        return inspect_hdf5(path, verify=verify)
    if path.name == "dataset.jsonl":
        return inspect_dataset(Workspace(path.parent), verify=verify, progress=progress)
    if path.name == "manifest.json":
        return inspect(path.parent, verify=verify)
    readers = {".safetensors": inspect_safetensors, ".jsonl": inspect_lines, ".json": inspect_json}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ItmkitError(f"{path}: not a file of itmkit; known are {KNOWN}")
    return _nothing_to_verify(reader(path), verify)


def _nothing_to_verify(report: Report, verify: bool) -> Report:
    if verify:
        report.fact("verified", "nothing: no digest of it is recorded")
    return report


def inspect_workspace(workspace: Workspace, *, verify: bool, progress: Progress) -> Report:
    """The data set of a workspace and one line a cache and run; with `verify` the shards of all caches."""
    report = Report("workspace", workspace.root)
    rows = [(row.stage, row.state, size_in_words(row.bytes), row.detail) for row in status(workspace)]
    report.tables.append(ReportTable("stages", ("stage", "state", "size", "detail"), rows, ("size",)))
    if verify:
        folders = [workspace.cache(name) for name in (*PIPELINE, *map(str, workspace.named_caches()))]
        with progress.task("verifying", total=len(folders), unit="caches") as advance:
            for folder in folders:
                if (folder / "manifest.json").exists():
                    try:
                        found = inspect_cache(folder, verify=True)
                    except ItmkitError as error:
                        report.fact(str(folder), "not verified: cannot be read")
                        report.problems += error.problems
                    else:
                        report.fact(str(folder), dict(found.facts)["verified"])
                        report.problems += found.problems
                advance()
    return report


def inspect_dataset(workspace: Workspace, *, verify: bool, progress: Progress) -> Report:
    """dataset.jsonl: counts, digests; with `verify` every picture is compared with its recorded digest."""
    dataset = workspace.dataset()
    report = Report("data set", workspace.dataset_path)
    report.fact("kind", dataset.kind)
    for name, value in leaves(dataset.info["settings"], "settings") if dataset.info["settings"] else []:
        report.fact(name, short(value))
    lengths = [len(caption.text.split()) for image in dataset.images for caption in image.captions]
    report.fact(
        "words in a caption", f"{sum(lengths) / max(1, len(lengths)):.1f} on average, {max(lengths, default=0)} at most"
    )
    report.fact("size of pictures", size_in_words(sum(image.bytes or 0 for image in dataset.images)))
    report.fact("digest of pictures", dataset.images_digest)
    report.fact("digest of captions", dataset.captions_digest)
    counts = [(split, f"{c['images']:,}", f"{c['captions']:,}") for split, c in dataset.info["counts"].items()]
    report.tables.append(ReportTable("splits", ("split", "images", "captions"), counts, ("images", "captions")))
    labels = Counter(label for image in dataset.images for label in image.labels)
    if labels:
        rows = [(label, f"{count:,}") for label, count in labels.most_common()]
        report.tables.append(ReportTable.cut("labels", ("label", "images"), rows, ("images",)))
    first = dataset.images[0]
    size = f"{first.width} x {first.height}" if first.width and first.height else "of unknown size"
    report.lines = [f"first image: {first.id}  {first.file or 'without a picture'}  {size}"]
    report.lines += [f"  {caption.id}  {caption.text}" for caption in first.captions]
    if verify:
        compared, report.problems = verified_pictures(workspace, dataset, progress=progress)
        rest = len(dataset.images) - compared
        without = f"; {rest:,} images have no picture with a recorded digest" if rest else ""
        report.fact("verified", f"{compared:,} pictures, {len(report.problems):,} NOT as prepared{without}")
    return report


def verified_pictures(workspace: Workspace, dataset: Dataset, *, progress: Progress = SILENT) -> tuple[int, list[str]]:
    """(how many pictures have a digest, in words those that are missing or have other bytes than when prepared)"""
    images = [image for image in dataset.images if image.file is not None and image.sha256 is not None]
    paths = [workspace.image_path(str(image.file)) for image in images]
    problems = []
    for image, found in zip(images, all_picture_facts(paths, progress=progress), strict=True):
        if not isinstance(found, Facts):
            problems.append(f"image {image.id!r}: {found}")
        elif found.sha256 != image.sha256:
            problems.append(f"image {image.id!r}: {image.file} has changed; run `itmkit prepare --force` again")
    return len(images), problems


def inspect_run(folder: Path, *, verify: bool = False) -> Report:
    """A training run: what it is and how far it has come, its evaluations, the course of its metrics, its files, and
    the rest of run.json last.

    Args:
        verify: compare weights, state, settings, vocabulary, metrics and evaluations with their recorded digests.
    """
    report, facts = Report("run", folder), RunFacts.read(folder)
    report.facts = [("method", facts.method), ("recipe", facts.recipe), ("other settings", _other_settings(folder))]
    report.fact("epochs done", f"{facts.epochs_done} of {facts.epochs}{'' if facts.finished else ', not finished'}")
    for member, best in facts.best.items():
        report.fact(f"best of {member}", f"val rsum {short(best['rsum'])} after epoch {best['epoch']}")
    report.fact("evaluated on", ", ".join(evaluated_on(folder)) or f"nothing; `itmkit evaluate --run {folder.name}`")
    if verify:
        checked, report.problems = verified_run(folder)
        wrong = f", {len(report.problems):,} NOT as written" if report.problems else ", all as written"
        report.fact("verified", f"{checked} files{wrong}" if checked else "nothing: the run is older than its digests")
    report.details = [(name, short(value)) for name, value in leaves(facts.to_json()) if name not in dict(report.facts)]
    evaluations = [_tables_of(inspect_json, path, report) for path in sorted(folder.glob("eval-*.json"))]
    report.tables += [table for tables in evaluations for table in tables[1:]]  # the results; below what they are of
    if (folder / METRICS).is_file():
        report.tables += _tables_of(inspect_lines, folder / METRICS, report)
    report.tables += [table for tables in evaluations for table in tables[:1]]
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    rows = [(file.relative_to(folder).as_posix(), size_in_words(file.stat().st_size)) for file in files]
    report.tables.append(ReportTable.cut("files", ("file", "size"), rows, ("size",)))
    return report


def _tables_of(reader: Callable[[Path], Report], path: Path, report: Report) -> list[ReportTable]:
    """Those of a file of a run; what is wrong with it is a problem of the report, which may name it already."""
    try:
        return reader(path).tables
    except ItmkitError as error:
        report.problems += [problem for problem in error.problems if problem not in report.problems]
        return []


def _other_settings(folder: Path) -> str:
    """Those that are not the recipe's, in words."""
    from itmkit.runs.settings import own_settings, read_config  # imports the methods, and with them torch

    try:
        settings = own_settings(read_config(folder / CONFIG))
    except ItmkitError as error:
        return f"not known ({error.problems[0]})"
    return ", ".join(f"{name} = {value}" for name, value in settings.items()) or "none: those of the recipe"


def verified_run(folder: Path) -> tuple[int, list[str]]:
    """(how many files of a run have a digest, in words what is wrong with them)"""
    from itmkit.runs.checkpoint import load  # imports torch, which no other inspection and no child needs

    facts, problems = RunFacts.read(folder), []
    checks: list[Callable[[], Any]] = [partial(facts.check_files, folder, name) for name in (CONFIG, VOCABULARY)]
    checks = [check for check, name in zip(checks, (CONFIG, VOCABULARY), strict=True) if name in facts.files]
    if METRICS in facts.files:
        checks.append(partial(records, folder))
    if facts.id:
        checks += [partial(load, path) for path in sorted(folder.glob("**/*.safetensors"))]
        checks += [partial(sealed, path, "evaluate the run again") for path in sorted(folder.glob("eval-*.json"))]
    for check in checks:
        try:
            check()
        except ItmkitError as error:
            problems += error.problems
    return len(checks), problems


def inspect_json(path: Path) -> Report:
    """A .json file: its values by their names; the results of an evaluation as a table."""
    report = Report("JSON file", path)
    record = read_strict_json(path)
    results = record.pop("results", None) if isinstance(record, dict) and is_evaluation(record) else None
    rows = [(name, short(value)) for name, value in leaves(record)]
    report.tables.append(ReportTable.cut(path.name, ("name", "value"), rows))
    if results is not None:
        told = []
        for result in results:
            recalls = [f"{float(result[way][key]):.1f}" for way in ("i2t", "t2i") for key in RECALLS]
            told.append((str(result["name"]), str(result["kind"]), *recalls, f"{float(result['rsum']):.1f}"))
        ways = tuple(f"{way} {key}" for way in ("i2t", "t2i") for key in RECALLS)
        columns = ("name", "kind", *ways, "rsum")
        report.tables.append(ReportTable.cut(f"{path.name}: results", columns, told, columns[2:]))
    return report


def is_evaluation(record: dict[str, Any]) -> bool:
    """Whether `record` is what `itmkit evaluate` writes."""
    results = record.get("results")
    if not isinstance(results, list) or not results:
        return False
    keys = {"name", "kind", "i2t", "t2i", "rsum"}
    return all(
        isinstance(result, dict)
        and keys <= result.keys()
        and isinstance(result["rsum"], (int, float))
        and all(
            isinstance(result[way], dict) and all(isinstance(result[way].get(key), (int, float)) for key in RECALLS)
            for way in ("i2t", "t2i")
        )
        for result in results
    )


def inspect_lines(path: Path) -> Report:
    """A .jsonl file such as metrics.jsonl: how each number of it went, from the first line to the last."""
    report = Report("JSON lines", path)
    problems: list[str] = []
    series: dict[str, list[float]] = {}
    count = 0
    for number, line in utf8_lines(path, problems):
        try:
            record = parse_json(line, f"{path}: line {number}")
        except ItmkitError as error:
            problems += error.problems
            continue
        count += 1
        for name, value in leaves(record):
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                series.setdefault(name, []).append(float(value))
    if problems:
        raise ItmkitError(problems)
    report.fact("lines", f"{count:,}")
    rows = [
        (name, *(short(value) for value in (values[0], _least(values), _greatest(values), values[-1])))
        for name, values in series.items()
    ]
    columns = ("name", "first", "least", "greatest", "last")
    report.tables.append(ReportTable.cut(path.name, columns, rows, columns[1:], shown=100))
    return report


def _least(values: list[float]) -> float:
    return min((value for value in values if not math.isnan(value)), default=math.nan)


def _greatest(values: list[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def inspect_safetensors(path: Path) -> Report:
    """Weights: names, types and shapes. Only the header is read."""
    from safetensors import SafetensorError, safe_open

    size = path.stat().st_size
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
            found = [(name, one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()]
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ItmkitError(f"{path}: not a safetensors file, or cut off ({first_line(error)})") from None
    report = Report("safetensors file", path)
    report.fact("tensors", f"{len(found):,}")
    report.fact("numbers", f"{sum(math.prod(shape) for *_, shape in found):,}")
    report.fact("size", size_in_words(size))
    for name, value in metadata.items():
        report.fact(f"metadata {name}", short(value))
    told = [
        (name, str(dtype), " x ".join(map(str, shape)) or "1", f"{math.prod(shape):,}") for name, dtype, shape in found
    ]
    report.tables.append(ReportTable.cut("tensors", ("name", "type", "shape", "numbers"), told, ("numbers",)))
    return report
