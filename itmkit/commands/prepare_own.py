"""itmkit prepare: the subcommands for data of your own, in the forms that people have it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from itmkit.commands.console import ConsoleProgress
from itmkit.commands.options import Path_
from itmkit.commands.prepare_shared import (
    add_option,
    caption_column_option,
    columns_of,
    common,
    delimiter_of,
    image_column_option,
    show,
    skip_damaged_option,
    skip_of,
    skipping,
    split_option,
)
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.datasets.pair_rows import Columns


@click.command("jsonl")
@click.argument("files", metavar="FILE...", type=Path_, nargs=-1, required=True)
@click.option("--images", type=Path_, show_default="folder of FILE", help="Folder that the image paths start from.")
@image_column_option
@caption_column_option
@split_option
@add_option
@skipping
@common
def jsonl(workspace: Workspace, as_json: bool, **options: Any) -> None:
    """Your own pictures: JSON objects with image, caption (or captions), and optionally split and labels.

    A file has an object per line, or is one list of objects. The names of several files say their splits (train.json,
    val.json, test.json). Without any split and without --split, a tenth of the images becomes val and a tenth test.

    \b
    Examples, with lines such as
      {"image": "a.jpg", "captions": ["A dog.", "A wet dog."], "split": "train"}
      itmkit prepare jsonl photos/captions.jsonl
      itmkit prepare jsonl train.json val.json test.json --images flickr30k
    """
    from itmkit.datasets.pairs import prepare_jsonl

    columns, skip = columns_of(options), skip_of(options)
    result = prepare_jsonl(workspace, columns=columns, skip=skip, **options, progress=ConsoleProgress())
    show(result, as_json)


@click.command("csv")
@click.argument("files", metavar="FILE...", type=Path_, nargs=-1, required=True)
@click.option("--images", type=Path_, show_default="folder of FILE", help="Folder that the image paths start from.")
@image_column_option
@caption_column_option
@click.option(
    "--delimiter", metavar="CHAR", callback=delimiter_of,
    show_default="from the first line: comma, tab, semicolon, bar",
    help="What separates the cells: a character, or tab, comma, semicolon, pipe.",
)  # fmt: skip
@split_option
@add_option
@skipping
@common
def csv(workspace: Workspace, as_json: bool, **options: Any) -> None:
    """Your own pictures: a table with the columns image and caption, and optionally split and labels (dog;beach).

    The first line names the columns, and tells what separates them. Several lines may be about one image, and the names
    of several files say their splits. Quotes enclose cells between commas and semicolons, in .tsv files they do not.

    \b
    Examples:
      itmkit prepare csv photos/captions.csv
      itmkit prepare csv results.csv --images flickr30k_images
      itmkit prepare csv more.csv --add -w work
      itmkit prepare csv pairs.csv --image-column file --caption-column en
    """
    from itmkit.datasets.pairs import prepare_csv

    columns, skip = columns_of(options), skip_of(options)
    result = prepare_csv(workspace, columns=columns, skip=skip, **options, progress=ConsoleProgress())
    show(result, as_json)


@click.command("images")
@click.argument("folder", metavar="DIR", type=Path_)
@add_option
@skip_damaged_option
@common
def images(workspace: Workspace, as_json: bool, **options: Any) -> None:
    """Your own photographs without captions: every picture in DIR and in the folders below it.

    They can be extracted from, indexed and searched; `itmkit photos` does all of it. What trains or evaluates needs
    captions. All images are in one split, `all`. Hidden files are passed over, and a picture that is there twice, byte
    for byte, is taken once. With --add, rows that caches have stay, and stages work on the new images alone.

    \b
    Examples:
      itmkit prepare images ~/Pictures -w photos
      itmkit prepare images ~/Pictures --add -w photos
    """
    from itmkit.datasets.pictures import prepare_images

    show(prepare_images(workspace, **options, progress=ConsoleProgress()), as_json)


@click.command("imagefolder")
@click.argument("folder", metavar="DIR", type=Path_)
@caption_column_option
@split_option
@add_option
@skipping
@common
def imagefolder(workspace: Workspace, as_json: bool, **options: Any) -> None:
    """A folder in the layout of Hugging Face's imagefolder: metadata.csv, .jsonl or .parquet beside the pictures.

    The metadata name pictures in file_name, and captions in text, caption and the like. Folders train/, validation/ and
    test/ say the splits. Reading metadata.parquet needs pyarrow: pip install 'itmkit[parquet]'.

    \b
    Example:
      itmkit prepare imagefolder my_dataset/ -w work
    """
    from itmkit.datasets.image_folder import prepare_image_folder

    columns, skip = _captions(options), skip_of(options)
    result = prepare_image_folder(workspace, columns=columns, skip=skip, **options, progress=ConsoleProgress())
    show(result, as_json)


@click.command("pairs")
@click.argument("folder", metavar="DIR", type=Path_)
@caption_column_option
@split_option
@add_option
@skipping
@common
def pairs(workspace: Workspace, as_json: bool, **options: Any) -> None:
    """Pictures with a text of the same name beside each: a.jpg and a.txt (a caption a line), or a.json.

    This is what img2dataset writes with --output_format files. Folders train/, val/ and test/ say the splits.

    \b
    Example:
      itmkit prepare pairs photos/ -w work
    """
    from itmkit.datasets.image_folder import prepare_pairs

    columns, skip = _captions(options), skip_of(options)
    result = prepare_pairs(workspace, columns=columns, skip=skip, **options, progress=ConsoleProgress())
    show(result, as_json)


@click.command("webdataset")
@click.argument("places", metavar="TAR|DIR...", type=Path_, nargs=-1, required=True)
@caption_column_option
@split_option
@add_option
@skipping
@common
def webdataset(workspace: Workspace, as_json: bool, **options: Any) -> None:
    """Shards of WebDataset: .tar with .jpg and .txt or .json a sample, as CLIP_benchmark and img2dataset write them.

    The pictures are unpacked into the workspace, whose other stages open files. Names of shards and folders say the
    splits (test/0.tar). Every line of a .txt is a caption.

    \b
    Examples:
      itmkit prepare webdataset wds_flickr30k/ -w work
      itmkit prepare webdataset cc3m/00000.tar cc3m/00001.tar --split train
    """
    from itmkit.datasets.webdataset import prepare_webdataset

    columns, skip = _captions(options), skip_of(options)
    result = prepare_webdataset(workspace, columns=columns, skip=skip, **options, progress=ConsoleProgress())
    show(result, as_json)


@click.command("parquet")
@click.argument("places", metavar="FILE|DIR...", type=Path_, nargs=-1, required=True)
@image_column_option
@caption_column_option
@split_option
@add_option
@skipping
@common
def parquet(workspace: Workspace, as_json: bool, **options: Any) -> None:
    """Parquet files with the pictures inside, as Hugging Face and img2dataset write them (needs pyarrow).

    The pictures are unpacked into the workspace. A column split, or the names of the files, say the splits
    (train-00000-of-00002.parquet). --image-column names what pictures are called, if not their path.

    \b
    Example:
      itmkit prepare parquet flickr30k/data -w work
    """
    from itmkit.datasets.parquet import prepare_parquet

    columns, skip = columns_of(options), skip_of(options)
    result = prepare_parquet(workspace, columns=columns, skip=skip, **options, progress=ConsoleProgress())
    show(result, as_json)


@click.command("auto")
@click.argument("path", type=Path_)
@click.option("--images", type=Path_, show_default="as the reader has it", help="Folder of the pictures.")
@split_option
@add_option
@skipping
@common
def auto(workspace: Workspace, as_json: bool, **options: Any) -> None:
    """Look at a file or folder, say what it is taken for and why, and read it with that reader.

    If PATH may be several things, or none that is known, the command says what it saw and names the readers.

    \b
    Example:
      itmkit prepare auto downloads/flickr -w work
    """
    from itmkit.datasets.auto import prepare_auto

    _, result = prepare_auto(workspace, skip=skip_of(options), **options, progress=ConsoleProgress())
    # What it is taken for was said before it was read.
    show(result if as_json else replace(result, notes=result.notes[1:]), as_json)


def _captions(options: dict[str, Any]) -> Columns:
    """Takes the option of the captions out of the others."""
    from itmkit.datasets.pair_rows import Columns

    return Columns(captions=options.pop("caption_column"))


OWN = (auto, jsonl, csv, imagefolder, pairs, webdataset, parquet, images)
