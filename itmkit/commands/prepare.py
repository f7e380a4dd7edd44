"""itmkit prepare: one subcommand a kind of data set."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from itmkit.commands.console import ConsoleProgress, out, print_json, table
from itmkit.commands.options import CountOrAll, Path_, force_option, json_option, workspace_option
from itmkit.dataset import ALL, SPLITS
from itmkit.datasets.prepared import LEFT_OUT, PreparedDataset
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.datasets.pair_rows import Columns
    from itmkit.datasets.skip import Skip
    from itmkit.datasets.tagged import Division

F = TypeVar("F", bound=Callable[..., Any])

SHOWN = 10  # things left out
skip_missing_option = click.option(
    "--skip-missing", is_flag=True, help="Leave out images whose picture is missing or unreadable, and say how many."
)
skip_damaged_option = click.option(
    "--skip-damaged", is_flag=True, help="Leave out records and pictures that cannot be read, and list them."
)
skip_empty_option = click.option(
    "--skip-empty", is_flag=True, help="Leave out captions without words, and images without captions, and list them."
)
split_option = click.option(
    "--split", type=click.Choice(SPLITS), help="The split of images that have none in the file."
)


class _Concepts(CountOrAll):
    name = "N|all|NAMES"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        if isinstance(value, str) and value != "all" and not value.isdecimal():
            return tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
        return super().convert(value, parameter, context)


captions_option = click.option(
    "--captions",
    type=CountOrAll(),
    default=5,
    show_default=True,
    help="How many captions of an image to take, in file order.",
)


lists_option = click.option(
    "--lists", type=Path_, metavar="DIR",
    help="Folder with the splits: train.txt and test.txt (perhaps database.txt), or Train/TestImagelist.txt.",
)  # fmt: skip
train_option = click.option(
    "--train", type=click.IntRange(min=1), metavar="N", show_default="all others", help="Images drawn for training."
)
val_option = click.option(
    "--val", type=click.IntRange(min=0), metavar="N", default=1000, show_default=True,
    help="Images drawn for validation; with --lists from database.txt, or from the training images.",
)  # fmt: skip
seed_option = click.option("--seed", default=0, show_default=True, help="The same seed draws the same images.")


def _test_option(default: str) -> Callable[[F], F]:
    return click.option(
        "--test", type=click.IntRange(min=1), metavar="N", show_default=default, help="Images drawn for testing."
    )


def _division(options: dict[str, Any]) -> Division:
    """Takes the options of the splits out of the others."""
    from itmkit.datasets.tagged import Division

    return Division(**{name: options.pop(name) for name in ("test", "val", "train", "seed", "lists")})


def _skip(options: dict[str, Any]) -> Skip:
    """Takes the options of what is left out out of the others."""
    from itmkit.datasets.skip import Skip

    return Skip(**{name: options.pop(f"skip_{name}") for name in ("missing", "damaged", "empty")})


def _columns(options: dict[str, Any]) -> Columns:
    """Takes the options of the columns out of the others."""
    from itmkit.datasets.pair_rows import Columns

    return Columns(options.pop("delimiter", None), options.pop("image_column"), options.pop("caption_column"))


def _delimiter(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    named = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "bar": "|", "space": " "}
    value = named.get(value, value) if value is not None else None
    if value is not None and (len(value) != 1 or value in '"\r\n'):
        raise click.BadParameter(f"{value!r}: one character, or tab, comma, semicolon, pipe", context, parameter)
    return value


image_column_option = click.option(
    "--image-column", metavar="NAME", show_default="image, file_name, filepath, ... whichever there is",
    help="What names the picture.",
)  # fmt: skip
caption_column_option = click.option(
    "--caption-column", metavar="NAME", multiple=True, show_default="caption, text, title, ... whichever there is",
    help="What holds a caption; repeatable.",
)  # fmt: skip


def _skipping(function: F) -> F:
    return skip_missing_option(skip_damaged_option(skip_empty_option(function)))


def _common(function: F) -> F:
    @wraps(function)
    def alone(workspace: Workspace, **options: Any) -> Any:
        with workspace.preparing():
            return function(workspace=workspace, **options)

    return workspace_option(force_option(json_option(cast("F", alone))))


@click.group("prepare", no_args_is_help=True)
def command() -> None:
    """Read a data set into the workspace: dataset.jsonl, one line per image with its captions.

    All problems of a data set are listed at once, and nothing is written until they are fixed. Preparing the same data
    set again does nothing; a different one needs --force.

    \b
    Example:
      itmkit prepare flickr8k Flickr8k/ -w work
    """


@command.command("karpathy")
@click.argument("file", type=Path_)
@click.option("--images", type=Path_, required=True, help="Folder of the pictures.")
@captions_option
@_skipping
@_common
def karpathy(workspace: Workspace, as_json: bool, **options: Any) -> None:
    """Karpathy's JSON of Flickr8k, Flickr30k or COCO, or a file in its layout.

    The folder of COCO's pictures is the one with train2014/ and val2014/ in it.

    \b
    Examples:
      itmkit prepare karpathy dataset_flickr30k.json --images flickr30k-images
      itmkit prepare karpathy dataset_coco.json --images coco
    """
    from itmkit.datasets.karpathy import prepare_karpathy

    result = prepare_karpathy(workspace, skip=_skip(options), **options, progress=ConsoleProgress())
    _show(result, as_json)


@command.command("flickr8k")
@click.argument("folder", type=Path_)
@click.option("--images", type=Path_, show_default="found by its usual names", help="Folder of the pictures.")
@captions_option
@_skipping
@_common
def flickr8k(workspace: Workspace, as_json: bool, **options: Any) -> None:
    """Flickr8k as its authors distribute it: the folder with Flickr8k.token.txt and the split lists.

    \b
    Example:
      itmkit prepare flickr8k Flickr8k_text --images Flicker8k_Dataset
    """
    from itmkit.datasets.flickr8k import prepare_flickr8k

    result = prepare_flickr8k(workspace, skip=_skip(options), **options, progress=ConsoleProgress())
    _show(result, as_json)


@command.command("coco")
@click.argument("files", metavar="CAPTIONS.json...", type=Path_, nargs=-1, required=True)
@click.option("--images", type=Path_, required=True, help="Folder of the pictures, or the one above train2017/ etc.")
@click.option("--instances", type=Path_, multiple=True, help="Instances file; its categories become image labels.")
@click.option("--split", type=click.Choice(SPLITS), show_default="from the file name", help="The split of all images.")
@captions_option
@_skipping
@_common
def coco(workspace: Workspace, as_json: bool, **options: Any) -> None:
    """COCO's annotation files; several may be given, one per split.

    \b
    Example:
      itmkit prepare coco annotations/captions_train2017.json \\
        annotations/captions_val2017.json --images . \\
        --instances annotations/instances_train2017.json
    """
    from itmkit.datasets.coco import prepare_coco

    result = prepare_coco(workspace, skip=_skip(options), **options, progress=ConsoleProgress())
    _show(result, as_json)


@command.command("mirflickr")
@click.argument("folder", type=Path_)
@click.option("--images", type=Path_, show_default="FOLDER or FOLDER/mirflickr", help="Folder of the pictures.")
@lists_option
@click.option(
    "--min-count", type=click.IntRange(min=1), metavar="N", show_default="doc/common_tags.txt or TagList.txt, else 20",
    help="Drop tags that fewer images have.",
)  # fmt: skip
@click.option("--keep-all", is_flag=True, help="Keep pictures with rare tags alone, without a tag or without a label.")
@_test_option("2000")
@val_option
@train_option
@seed_option
@_skipping
@_common
def mirflickr(workspace: Workspace, as_json: bool, **options: Any) -> None:
    """MIRFLICKR-25K: the tags of an image are its caption, and its annotations are its labels.

    FOLDER is the authors' (meta/tags/, and mirflickr25k_annotations_v080/ in it or beside it), or has all_imgs.txt,
    all_tags.txt and all_labels.txt or labels_annotation.txt, one line per image. Images without a tag or label are
    left out.

    \b
    Examples:
      itmkit prepare mirflickr mirflickr --test 2000 --val 1000 --seed 0
      itmkit prepare mirflickr mirflickr --keep-all --test 10000
    """
    from itmkit.datasets.mirflickr import prepare_mirflickr

    division, skip = _division(options), _skip(options)
    result = prepare_mirflickr(workspace, division=division, skip=skip, **options, progress=ConsoleProgress())
    _show(result, as_json)


@command.command("nuswide")
@click.argument("folder", type=Path_)
@click.option("--images", type=Path_, show_default="FOLDER/Flickr or FOLDER/images", help="Folder of the pictures.")
@lists_option
@click.option(
    "--vocabulary", type=Path_, metavar="FILE", show_default="TagList1k.txt where there is one, else all tags",
    help="The tags that are kept, one per line, such as Final_Tag_List.txt.",
)  # fmt: skip
@click.option(
    "--concepts", type=_Concepts(), default=21, show_default=True,
    help="How many of the most frequent concepts become labels, or their names.",
)  # fmt: skip
@click.option(
    "--each", type=click.IntRange(1), metavar="N", show_default="all images",
    help="Draw N images of each concept, with no other of them: 1000 of ten for NUS-WIDE-10K.",
)  # fmt: skip
@_test_option("2100")
@val_option
@train_option
@seed_option
@_skipping
@_common
def nuswide(workspace: Workspace, as_json: bool, **options: Any) -> None:
    """NUS-WIDE: the tags of an image are its caption, and the concepts it shows are its labels.

    FOLDER holds what the authors' archives unpack to: ImageList/, NUS_WID_Tags/, Groundtruth/, Concepts81.txt or
    ConceptsList/, Flickr/. Images without tag or label are left out. The official split is in ImageList/.

    \b
    Examples:
      itmkit prepare nuswide NUS-WIDE --test 2100 --val 1000 --train 10500
      itmkit prepare nuswide NUS-WIDE --lists NUS-WIDE/ImageList --concepts all
      itmkit prepare nuswide NUS-WIDE --concepts animal,sky --each 1000
    """
    from itmkit.datasets.nuswide import prepare_nuswide

    division, skip = _division(options), _skip(options)
    result = prepare_nuswide(workspace, division=division, skip=skip, **options, progress=ConsoleProgress())
    _show(result, as_json)


@command.command("jsonl")
@click.argument("files", metavar="FILE...", type=Path_, nargs=-1, required=True)
@click.option("--images", type=Path_, show_default="folder of FILE", help="Folder that the image paths start from.")
@image_column_option
@caption_column_option
@split_option
@_skipping
@_common
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

    columns, skip = _columns(options), _skip(options)
    result = prepare_jsonl(workspace, columns=columns, skip=skip, **options, progress=ConsoleProgress())
    _show(result, as_json)


@command.command("csv")
@click.argument("files", metavar="FILE...", type=Path_, nargs=-1, required=True)
@click.option("--images", type=Path_, show_default="folder of FILE", help="Folder that the image paths start from.")
@image_column_option
@caption_column_option
@click.option(
    "--delimiter", metavar="CHAR", callback=_delimiter, show_default="from the first line: comma, tab, semicolon, bar",
    help="What separates the cells: a character, or tab, comma, semicolon, pipe.",
)  # fmt: skip
@split_option
@_skipping
@_common
def csv(workspace: Workspace, as_json: bool, **options: Any) -> None:
    """Your own pictures: a table with the columns image and caption, and optionally split and labels (dog;beach).

    The first line names the columns, and tells what separates them. Several lines may be about one image, and the names
    of several files say their splits. Quotes enclose cells between commas and semicolons, in .tsv files they do not.

    \b
    Examples:
      itmkit prepare csv photos/captions.csv --split train
      itmkit prepare csv results.csv --images flickr30k_images
      itmkit prepare csv pairs.csv --image-column file --caption-column en
    """
    from itmkit.datasets.pairs import prepare_csv

    columns, skip = _columns(options), _skip(options)
    result = prepare_csv(workspace, columns=columns, skip=skip, **options, progress=ConsoleProgress())
    _show(result, as_json)


@command.command("images")
@click.argument("folder", metavar="DIR", type=Path_)
@click.option("--add", is_flag=True, help="Add what the data set lacks, as its last images.")
@skip_damaged_option
@_common
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

    _show(prepare_images(workspace, **options, progress=ConsoleProgress()), as_json)


@command.command("scenes")
@click.option("--train", default=1000, show_default=True, help="Pictures to make for training.")
@click.option("--val", default=200, show_default=True, help="Pictures to make for validation.")
@click.option("--test", default=300, show_default=True, help="Pictures to make for testing.")
@click.option("--seed", default=0, show_default=True, help="The same seed makes the same pictures and captions.")
@_common
def scenes(workspace: Workspace, as_json: bool, **options: Any) -> None:
    """Make a data set: drawn pictures of coloured objects with captions that are hard to match.

    \b
    Example:
      itmkit prepare scenes --train 1000 --val 200 --test 300 --seed 0 -w scenes
    """
    from itmkit.datasets.prepared import prepare_scenes

    _show(prepare_scenes(workspace, **options, progress=ConsoleProgress()), as_json)


def _show(result: PreparedDataset, as_json: bool) -> None:
    if as_json:
        print_json(result.to_json())
        return
    rows = [(split, f"{c['images']:,}", f"{c['captions']:,}") for split, c in result.counts.items()]
    images, captions = (sum(c[what] for c in result.counts.values()) for what in ("images", "captions"))
    if list(result.counts) != [ALL]:
        rows.append(("all", f"{images:,}", f"{captions:,}"))
    table(None, ["split", "images", "captions"], rows, right=["images", "captions"])
    for note in result.notes:
        out.print(f"note: {note}")
    if result.left_out:
        listed = result.path.with_name(LEFT_OUT)
        out.print(f"{len(result.left_out):,} records, captions or images were left out (all are listed in {listed}):")
        for line in result.left_out[:SHOWN]:
            out.print(f"  {line}")
        if len(result.left_out) > SHOWN:
            out.print(f"  and {len(result.left_out) - SHOWN:,} more")
    already = "is already this data set; nothing to do" if result.unchanged else "written"
    out.print(f"{result.path} {already}")
