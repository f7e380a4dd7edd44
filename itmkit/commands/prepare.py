"""itmkit prepare: one subcommand a kind of data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from itmkit.commands.console import ConsoleProgress
from itmkit.commands.options import CountOrAll, Path_
from itmkit.commands.prepare_own import OWN
from itmkit.commands.prepare_shared import common as _common
from itmkit.commands.prepare_shared import show as _show
from itmkit.commands.prepare_shared import skip_of as _skip
from itmkit.commands.prepare_shared import skipping as _skipping
from itmkit.dataset import SPLITS
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.datasets.tagged import Division

F = TypeVar("F", bound=Callable[..., Any])


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
@click.option(
    "--instances", type=Path_, multiple=True, help="Of COCO: an instances file; its categories become image labels."
)
@captions_option
@_skipping
@_common
def karpathy(workspace: Workspace, as_json: bool, **options: Any) -> None:
    """Karpathy's JSON of Flickr8k, Flickr30k or COCO, or a file in its layout.

    The folder of COCO's pictures is the one with train2014/ and val2014/ in it.

    \b
    Examples:
      itmkit prepare karpathy dataset_flickr30k.json --images flickr30k-images
      itmkit prepare karpathy dataset_coco.json --images coco \\
        --instances annotations/instances_train2014.json \\
        --instances annotations/instances_val2014.json
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
      itmkit prepare nuswide NUS-WIDE --concepts animal,sky --each 1000 --test 200
    """
    from itmkit.datasets.nuswide import prepare_nuswide

    division, skip = _division(options), _skip(options)
    result = prepare_nuswide(workspace, division=division, skip=skip, **options, progress=ConsoleProgress())
    _show(result, as_json)


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


for own in OWN:
    command.add_command(own)
