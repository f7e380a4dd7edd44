"""itmkit import-features: region features that lie in files already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from itmkit.commands import options
from itmkit.commands.imported import show_damaged, show_sets
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.import_features.tsv_lines import FeatureType

skip_damaged_option = click.option(
    "--skip-damaged", is_flag=True,
    help="Leave out records that cannot be used (broken lines, NaN, boxes outside the picture), and list them.",
)  # fmt: skip


@click.group("import-features")
def command() -> None:
    """Take region features from files of other projects instead of computing them.

    \b
    Examples: itmkit import-features scan f30k_precomp -w work
              itmkit import-features bottom-up trainval_36.tsv -w work
    """


def split_pairs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """{"dev": "val"} of ("dev=val",); commas also separate pairs."""
    pairs = {}
    for value in (part for given in values for part in given.split(",") if part):
        name, equals, split = value.partition("=")
        if not equals or not name or not split:
            raise click.BadParameter(f"{value!r}: write NAME=SPLIT, such as testall=test, or NAME=- to leave it out")
        pairs[name] = split
    return pairs


@command.command("scan")
@click.argument("folder", type=click.Path(path_type=Path))
@options.workspace_option
@click.option(
    "--split-map", "split_map", multiple=True, callback=split_pairs, metavar="NAME=SPLIT",
    help="The split that a NAME stands for (dev is val, testall is test without it); NAME=- leaves it out. Repeatable.",
)  # fmt: skip
@click.option(
    "--tags", "tag_form", type=click.Choice(["colour-class", "class"]), default="colour-class", show_default=True,
    help="Tags are split at the first space into colour and class, or taken whole.",
)  # fmt: skip
@click.option(
    "--size-order", type=click.Choice(["width-height", "height-width"]), default="width-height", show_default=True,
    help="The columns of *_sizes.npy.",
)  # fmt: skip
@skip_damaged_option
@click.option("--skip-empty", is_flag=True, help="Leave out captions without words, and pictures without captions.")
@click.option(
    "--exact", is_flag=True,
    help="Keep features as float32, in twice the space, for the very scores of published weights.",
)  # fmt: skip
@options.force_option
@options.json_option
def scan(
    workspace: Workspace,
    folder: Path,
    split_map: dict[str, str],
    tag_form: str,
    size_order: str,
    skip_damaged: bool,
    skip_empty: bool,
    exact: bool,
    force: bool,
    as_json: bool,
) -> None:
    """FOLDER in the SCAN layout: train_ims.npy, train_caps.txt, dev_ims.npy, ... (f30k_precomp, coco_precomp).

    Also read, if present: *_ids.txt, *_boxes.npy, *_sizes.npy, *_tags.json, *_scores.npy.
    Writes dataset.jsonl unless `itmkit prepare` made one, and caches/regions.

    \b
    Example: itmkit import-features scan f30k_precomp -w work
    """
    from itmkit.commands import console
    from itmkit.import_features.scan import import_scan
    from itmkit.import_features.scan_check import CheckOptions

    result = import_scan(
        workspace,
        folder,
        split_map=split_map,
        tag_form=tag_form,  # type: ignore[arg-type]
        options=CheckOptions(size_order, skip_damaged, skip_empty),  # type: ignore[arg-type]
        exact=exact,
        force=force,
        progress=console.ConsoleProgress(),
    )
    if as_json:
        console.print_json(asdict(result))
        return
    if result.unchanged:
        console.out.print(f"{result.path}: complete, made from these files; nothing to do")
        return
    each = result.split_captions
    splits = ", ".join(f"{name} {count} with {each[name]} captions" for name, count in result.splits.items())
    console.out.print(
        f"{result.images} pictures ({splits}), {result.captions} captions, {result.regions} regions x {result.dim}"
        f" with {', '.join(result.extras) or 'neither boxes nor tags'} -> {result.path}"
    )
    if result.repeated:
        console.out.print(f"{result.repeated} of {result.rows} rows repeated an earlier row and were left out")
    if result.left_out:
        console.out.print(f"{result.left_out} pictures of the folder are not in the data set and were left out")
    if result.empty:
        console.out.print(f"{result.empty} captions without words were left out")
    show_damaged(result.damaged, result.path)
    if result.skipped:
        console.out.print(f"{result.skipped} pictures skipped (listed in {result.path / 'manifest.json'})")
    if "blocks" in result.extras:
        console.out.print("with block positions instead of boxes, build-graphs makes no polar coordinates")
    elif "boxes" not in result.extras:
        console.out.print(
            "without boxes, build-graphs has no block positions (PFAN, GLFN) and no polar coordinates (MPSM) to make."
            " f30k_precomp and coco_precomp have none: put the boxes of the same regions beside the arrays, as"
            " NAME_boxes.npy or NAME_ims_bbx.npy (of GSMN or RCAR), and import again; or go on without with"
            " `itmkit build-graphs --only texts` and `itmkit train --method mpsm --visual-kgid false`"
        )


regions_option = click.option(
    "--regions", type=click.IntRange(1, 32767), metavar="R",
    help="Most regions per picture (default: the most of any picture); more are an error.",
)  # fmt: skip


@command.command("bottom-up")
@click.argument("files", type=options.Path_, nargs=-1, required=True)
@options.workspace_option
@click.option(
    "--vocabulary", type=options.Path_, metavar="DIR",
    help="Folder with objects_vocab.txt and attributes_vocab.txt, which turn LXMERT's ids into tags and attributes.",
)  # fmt: skip
@click.option(
    "--dtype", type=click.Choice(["float32", "float16"]), default="float32", show_default=True,
    help="The type of the numbers in the field `features`; the files do not say it.",
)  # fmt: skip
@regions_option
@skip_damaged_option
@options.force_option
@options.json_option
def bottom_up(
    workspace: Workspace,
    files: tuple[Path, ...],
    vocabulary: Path | None,
    dtype: FeatureType,
    regions: int | None,
    skip_damaged: bool,
    force: bool,
    as_json: bool,
) -> None:
    """FILES in bottom-up attention's TSV form, LXMERT's or VinVL's: all files of one set.

    The workspace needs a data set (`itmkit prepare`). Its pictures are found by id, file name or COCO's number. VinVL's
    features.tsv has boxes as shares of the pictures, whose sizes are those of the data set; its labels.tsv, named as
    well, gives the regions their tags.

    \b
    Examples:
      itmkit import-features bottom-up karpathy_*.tsv -w work
      itmkit import-features bottom-up *2014_obj36.tsv --vocabulary vg -w work
      itmkit import-features bottom-up train/features.tsv train/labels.tsv -w work
    """
    from itmkit.commands import console
    from itmkit.import_features.sets import import_bottom_up

    result = import_bottom_up(
        workspace,
        files,
        vocabulary=vocabulary,
        dtype=dtype,
        regions=regions,
        skip_damaged=skip_damaged,
        force=force,
        progress=console.ConsoleProgress(),
    )
    show_sets(result, as_json)


boxes_option = click.option(
    "--boxes", type=options.Path_, metavar="DIR",
    help="Folder with the boxes (n, 4) of each picture, in .npy files of the same names.",
)  # fmt: skip
F = TypeVar("F", bound=Callable[..., Any])


def _one_a_picture(function: F) -> F:
    """The options of the commands that read a folder with a file a picture."""
    for option in (options.json_option, options.force_option, skip_damaged_option, regions_option, boxes_option):
        function = option(function)
    return options.workspace_option(function)


@command.command("npz")
@click.argument("folder", type=options.Path_)
@_one_a_picture
def npz(folder: Path, **given: Any) -> None:
    """FOLDER with one .npz file per picture: x, bbox, num_bbox, image_h, image_w (bottom-up-attention.pytorch).

    Other usual names are known (features, feat, boxes, ...), and without sizes those of the data set count. The pickled
    `info` in these files is never read. The workspace needs a data set (`itmkit prepare`).

    \b
    Examples:
      itmkit import-features npz features/train2014 -w work
      itmkit import-features npz cocobu_att --boxes cocobu_box -w work
    """
    _import_folder(folder, ".npz", **given)


@command.command("npy")
@click.argument("folder", type=options.Path_)
@_one_a_picture
def npy(folder: Path, **given: Any) -> None:
    """FOLDER with one .npy file per picture: an array (n, D) of its regions, named as the picture.

    Boxes may lie in another folder. The workspace needs a data set (`itmkit prepare`).

    \b
    Example:
      itmkit import-features npy features --boxes boxes -w work
    """
    _import_folder(folder, ".npy", **given)


@command.command("pt")
@click.argument("path", metavar="FOLDER|FILE", type=options.Path_)
@_one_a_picture
def pt(path: Path, boxes: Path | None, **given: Any) -> None:
    """FOLDER with one .pt file per picture, or one FILE with a dict {id: tensor (n, D), or dict of tensors}.

    Only tensors, numbers and text are read, no other Python objects. The workspace needs a data set.

    \b
    Examples:
      itmkit import-features pt features/ -w work
      itmkit import-features pt train_img_frcnn_feats.pt -w work
    """
    if path.is_dir():
        _import_folder(path, ".pt", boxes=boxes, **given)
    elif boxes is not None:
        raise click.BadParameter("goes with a folder that has a file per picture", param_hint="--boxes")
    else:
        _import_many(path, None, **given)


@command.command("hdf5")
@click.argument("file", type=options.Path_)
@options.workspace_option
@click.option(
    "--index", type=options.Path_, metavar="FILE.json", show_default="FILE_imgid2idx.json beside it",
    help="Which picture each row is: {id: row}, or a list of ids in the order of the rows.",
)  # fmt: skip
@regions_option
@skip_damaged_option
@options.force_option
@options.json_option
def hdf5(file: Path, index: Path | None, **given: Any) -> None:
    """FILE in UpDown's HDF5 layouts (image_features, image_bb), or with ID_features and ID_boxes per picture (M2).

    UpDown's index is a pickle, which is never read; without an index the command says how to convert it to JSON. The
    workspace needs a data set (`itmkit prepare`).

    \b
    Example:
      itmkit import-features hdf5 train36.hdf5 --index train36_imgid2idx.json
    """
    _import_many(file, index, **given)


def _import_folder(folder: Path, ending: str, *, workspace: Workspace, as_json: bool, **given: Any) -> None:
    from itmkit.commands import console
    from itmkit.import_features.sets import import_picture_files

    result = import_picture_files(workspace, folder, ending, **given, progress=console.ConsoleProgress())
    show_sets(result, as_json)


def _import_many(file: Path, index: Path | None, *, workspace: Workspace, as_json: bool, **given: Any) -> None:
    from itmkit.commands import console
    from itmkit.import_features.sets import import_many_pictures

    result = import_many_pictures(workspace, file, index=index, **given, progress=console.ConsoleProgress())
    show_sets(result, as_json)
