"""build-graphs: what the matchers need to know about places and dependencies, computed once.

caches/graphs/images, one row a picture:
    blocks (R, 15) int16, block_weights (R, 15) float32    block positions (GLFN eqs 2-12)
    polar_rho (R, R) float16, polar_theta (R, R) float16   where region j lies as seen from region i (MPSM eq 3);
                                                           not where block positions were imported instead of boxes
caches/graphs/texts, one row a caption text, ragged:
    edges (E, 2) int16                                     dependency pairs i < j, undirected (MPSM, text side)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from itmkit.cache import CacheReader, CacheWriter, Column, MadeBy, Manifest
from itmkit.dataset import Dataset
from itmkit.errors import ItmkitError
from itmkit.parse_text.store import TextCache
from itmkit.progress import SILENT, Progress
from itmkit.stages import require
from itmkit.workspace import Workspace

BLOCKS, KEEP = 16, 15
STAGE = "build-graphs"
GraphSide = Literal["images", "texts"]
PARTS: tuple[GraphSide, ...] = ("images", "texts")
_IMAGES_AT_ONCE, _TEXTS_AT_ONCE = 64, 5000
_TEXT_SHARD = 50_000


def block_positions(
    boxes: np.ndarray, sizes: np.ndarray, blocks: int = BLOCKS, keep: int = KEEP
) -> tuple[np.ndarray, np.ndarray]:
    """The blocks of its picture that a box overlaps most.

    A picture is cut into blocks x blocks, numbered 1.. row by row. For each box the `keep` blocks with the largest
    overlap in pixels, largest first, ties in the order of their numbers; the weight is the share in the sum of the
    kept overlaps. Places without overlap (and so all places of a padding box of zeros) have number 0, weight 0.

    Args:
        boxes: (n, R, 4) x1 y1 x2 y2 in pixels.
        sizes: (n, 2) width, height in pixels, at least 1.

    Returns:
        (numbers (n, R, keep) int16, weights (n, R, keep) float32)
    """
    if not 1 <= keep <= blocks * blocks:
        raise ValueError(f"keep is {keep}; 1 to {blocks * blocks} can be kept of {blocks} x {blocks} blocks")
    scale = blocks / np.asarray(sizes, np.float64)[:, None, :]
    # Measured in blocks, not pixels: areas are only multiplied by a constant of the picture, and all whole blocks
    # overlap by exactly 1, so that ties are ties.
    low, high = np.asarray(boxes[..., :2], np.float64) * scale, np.asarray(boxes[..., 2:], np.float64) * scale
    edge = np.arange(blocks)
    share = np.minimum(high[..., None], edge + 1) - np.maximum(low[..., None], edge)  # (n, R, 2, blocks)
    # Rounding away the last bits keeps those overlaps equal that are so on paper.
    share = np.round(np.clip(share, 0, 1), 9)
    areas = np.round(share[..., 1, :, None] * share[..., 0, None, :], 9)  # (n, R, rows, columns)
    areas = areas.reshape(*areas.shape[:2], blocks * blocks)
    order = np.argsort(-areas, axis=-1, kind="stable")[..., :keep]
    kept = np.take_along_axis(areas, order, axis=-1)
    numbers = np.where(kept > 0, order + 1, 0).astype(np.int16)
    weights = kept / np.maximum(kept.sum(axis=-1, keepdims=True), 1e-12)
    return numbers, weights.astype(np.float32)


def polar_coordinates(
    boxes: np.ndarray, sizes: np.ndarray, count: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Distance and direction from the centre of each region to that of every other.

    Args:
        boxes: (n, R, 4) x1 y1 x2 y2 in pixels; sizes: (n, 2) width, height in pixels.
        count: (n,) how many of the R regions are real; entries of the others are zeros.

    Returns:
        rho (n, R, R) float16: distance of j from i, divided by the diagonal of the picture (0 to 1).
        theta (n, R, R) float16: direction of j as seen from i in radians, -pi to pi, 0 to the right, growing
            downwards (y grows downwards in pictures); 0 where the centres coincide.
    """
    box = np.asarray(boxes, np.float64)
    centre = (box[..., :2] + box[..., 2:]) / 2
    step = centre[:, None, :, :] - centre[:, :, None, :]  # (n, i, j, 2)
    rho = np.hypot(step[..., 0], step[..., 1]) / np.hypot(*np.asarray(sizes, np.float64).T)[:, None, None]
    theta = np.arctan2(step[..., 1], step[..., 0])
    if count is not None:
        real = np.arange(box.shape[1]) < np.asarray(count)[:, None]
        pair = real[:, :, None] & real[:, None, :]
        rho, theta = np.where(pair, rho, 0), np.where(pair, theta, 0)
    return rho.astype(np.float16), theta.astype(np.float16)


def dependency_edges(heads: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The undirected edges of dependency trees.

    Args:
        heads: (total,) index of each token's head within its caption; a root points to itself.
        offsets: (n + 1,) caption k has the tokens offsets[k] .. offsets[k + 1] - 1.

    Returns:
        edges (E, 2) int16, pairs i < j within the caption, no loops, each pair once, in order; and their
        offsets (n + 1,) int64.

    Raises:
        ItmkitError: a head outside its caption.
    """
    offsets = np.asarray(offsets, np.int64)
    lengths = np.diff(offsets)
    caption = np.repeat(np.arange(len(lengths)), lengths)
    token = np.arange(offsets[-1]) - offsets[:-1][caption]
    head = np.asarray(heads, np.int64)
    wrong = (head < 0) | (head >= lengths[caption])
    if wrong.any():
        place = int(np.argmax(wrong))
        raise ItmkitError(
            f"caption {int(caption[place])}: the head of token {int(token[place])} is {int(head[place])}, outside its"
            f" {int(lengths[caption[place]])} tokens; run `itmkit parse-text --force`"
        )
    low, high = np.minimum(token, head), np.maximum(token, head)
    longest = int(lengths.max(initial=1))
    if longest > np.iinfo(np.int16).max:
        raise ItmkitError(f"a caption has {longest} tokens; at most {np.iinfo(np.int16).max} fit")
    linked = low != high
    pairs = np.unique((caption[linked] * longest + low[linked]) * longest + high[linked])
    edges = np.stack([pairs // longest % longest, pairs % longest], axis=1).astype(np.int16)
    per_caption = np.bincount(pairs // longest**2, minlength=len(lengths))
    return edges, np.concatenate([np.zeros(1, np.int64), np.cumsum(per_caption, dtype=np.int64)])


@dataclass(frozen=True)
class GraphsResult:
    """Rows of the two caches; None where that part was not asked for. `polar`: whether there are coordinates."""

    path: Path
    images: int | None
    texts: int | None
    edges: int | None
    blocks: int
    keep: int
    polar: bool = True


def build_graphs(
    workspace: Workspace,
    *,
    blocks: int | None = None,
    keep: int | None = None,
    parts: Sequence[GraphSide] | None = None,
    shard_size: int = 2000,
    force: bool = False,
    progress: Progress = SILENT,
) -> GraphsResult:
    """Builds caches/graphs/images from caches/regions, and caches/graphs/texts from caches/text.

    Args:
        blocks, keep: see `block_positions`; default: workspace.toml `[build-graphs]`, else 16 and 15.
        parts: which of the two; by default both, or those of images alone if there are no captions.

    Raises:
        ItmkitError: an earlier cache is missing, unfinished, stale, or has neither boxes nor block positions; the
            graphs on disk were made otherwise (and not `force`).
    """
    settings = workspace.settings(STAGE)
    problems = []
    blocks, keep = (
        settings.get(name, default) if given is None else given
        for name, given, default in (("blocks", blocks, BLOCKS), ("keep", keep, KEEP))
    )
    if not isinstance(blocks, int) or not 1 <= blocks <= 128:
        problems.append(f"blocks is {blocks!r}; a whole number from 1 to 128 is needed")
    elif not isinstance(keep, int) or not 1 <= keep <= blocks * blocks:
        problems.append(
            f"keep is {keep!r}; a whole number from 1 to {blocks * blocks} ({blocks} x {blocks} blocks) is needed"
        )
    if problems:
        raise ItmkitError(problems)
    assert isinstance(blocks, int) and isinstance(keep, int)
    dataset = workspace.dataset()
    if parts is None:
        parts = PARTS if dataset.has_captions else ("images",)
    if "texts" in parts:
        dataset.check_captions("`itmkit build-graphs --only texts`")
    needed = [cache for part, cache in (("images", "regions"), ("texts", "text")) if part in parts]
    require(workspace, *needed, dataset=dataset)
    if "images" in parts:
        _check_boxes(workspace, blocks, keep)
    images = texts = edges = None
    polar = True
    if "images" in parts:
        polar = not _has_blocks(CacheReader.open(workspace.cache("regions")).manifest)
        images = _image_graphs(workspace, dataset, blocks, keep, shard_size, force, progress)
    if "texts" in parts:
        texts, edges = _text_graphs(workspace, dataset, force, progress)
    return GraphsResult(workspace.cache("graphs"), images, texts, edges, blocks, keep, polar)


def _check_boxes(workspace: Workspace, blocks: int, keep: int) -> None:
    """Imported features may have come without boxes or sizes, and no position can be had from nothing."""
    regions = CacheReader.open(workspace.cache("regions"))
    if _has_blocks(regions.manifest):
        there = regions.columns["blocks"].shape[1]
        if (blocks, keep) != (BLOCKS, there):
            raise ItmkitError(
                f"{regions.folder}: was imported with block positions, {there} of {BLOCKS} x {BLOCKS} blocks a region,"
                f" and without boxes; {keep} of {blocks} x {blocks} cannot be made of them"
            )
        return
    if missing := lacking(regions.manifest):
        raise ItmkitError(
            f"{workspace.cache('regions')}: was imported without {' and '.join(missing)}, so there are no block"
            " positions and no polar coordinates to make. Add the files and import again (GSMN and RCAR distribute"
            " NAME_ims_bbx.npy for f30k_precomp and coco_precomp); or run `itmkit build-graphs --only texts` for"
            " methods that need no positions (MPSM: with --visual-kgid false)"
        )


def lacking(regions: Manifest) -> list[str]:
    """Which of boxes and sizes imported regions came without, so that no positions can be made."""
    if _has_blocks(regions):
        return []
    return [what for what in ("boxes", "sizes") if regions.notes.get(what, True) is False]


def _has_blocks(regions: Manifest) -> bool:
    """Whether the cache came with block positions instead of boxes (PFAN's and GLFN's files)."""
    return "blocks" in regions.columns


def _image_graphs(
    workspace: Workspace,
    dataset: Dataset,
    blocks: int,
    keep: int,
    shard_size: int,
    force: bool,
    progress: Progress,
) -> int:
    regions = CacheReader.open(workspace.cache("regions"), stage="extract-regions")
    count = regions.columns["boxes"].shape[0]
    columns = {
        "blocks": Column("int16", (count, keep)),
        "block_weights": Column("float32", (count, keep)),
    }
    if not _has_blocks(regions.manifest):
        columns |= {name: Column("float16", (count, count)) for name in ("polar_rho", "polar_theta")}
    made_by = MadeBy(STAGE, {"blocks": blocks, "keep": keep}, None, workspace.inputs("graphs/images", dataset))
    ids, done = regions.ids, 0
    with (
        CacheWriter.open(
            workspace.cache("graphs/images"),
            made_by=made_by,
            columns=columns,
            keys=ids,
            shard_size=shard_size,
            force=force,
        ) as writer,
        progress.task("build-graphs images", len(ids), done=writer.done, unit="images") as advance,
    ):
        done = writer.done
        for number, keys in writer.pending():
            with writer.shard(number) as out:
                for start in range(done, done + len(keys), _IMAGES_AT_ONCE):
                    rows = np.arange(start, min(start + _IMAGES_AT_ONCE, done + len(keys)))
                    arrays = _image_rows(regions, rows, blocks, keep)
                    out.append(ids[rows[0] : rows[-1] + 1], arrays)
                    advance(len(rows))
            done += len(keys)
    return len(ids)


def _image_rows(regions: CacheReader, rows: np.ndarray, blocks: int, keep: int) -> dict[str, np.ndarray]:
    if _has_blocks(regions.manifest):
        return {name: regions.read(name, rows) for name in ("blocks", "block_weights")}
    boxes, sizes, count = (regions.read(name, rows) for name in ("boxes", "size", "count"))
    if (sizes < 1).any():
        wrong = regions.ids[rows[int(np.argmax((sizes < 1).any(axis=1)))]]
        raise ItmkitError(f"{regions.folder}: picture {wrong!r} has no size; make the cache again with --force")
    real = np.arange(boxes.shape[1]) < count[:, None]
    numbers, weights = block_positions(np.where(real[..., None], boxes, 0), sizes, blocks, keep)
    rho, theta = polar_coordinates(boxes, sizes, count)
    return {"blocks": numbers, "block_weights": weights, "polar_rho": rho, "polar_theta": theta}


def _text_graphs(workspace: Workspace, dataset: Dataset, force: bool, progress: Progress) -> tuple[int, int]:
    text = TextCache.open(workspace.cache("text"))
    ids = text.reader.ids
    made_by = MadeBy(STAGE, {}, None, workspace.inputs("graphs/texts", dataset))
    with (
        CacheWriter.open(
            workspace.cache("graphs/texts"),
            made_by=made_by,
            columns={"edges": Column("int16", (2,), "ragged", "edges")},
            keys=ids,
            shard_size=_TEXT_SHARD,
            force=force,
        ) as writer,
        progress.task("build-graphs texts", len(ids), done=writer.done, unit="captions") as advance,
    ):
        done = writer.done
        for number, keys in writer.pending():
            with writer.shard(number) as out:
                for start in range(done, done + len(keys), _TEXTS_AT_ONCE):
                    rows = np.arange(start, min(start + _TEXTS_AT_ONCE, done + len(keys)))
                    edges, bounds = dependency_edges(*text.column("heads", rows))
                    out.append(ids[rows[0] : rows[-1] + 1], {"edges": edges}, lengths=np.diff(bounds))
                    advance(len(rows))
            done += len(keys)
    graphs = CacheReader.open(workspace.cache("graphs/texts"))
    return len(ids), int(graphs.lengths("edges").sum())
