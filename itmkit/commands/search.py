"""itmkit search."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from itmkit.commands import options
from itmkit.workspace import Workspace

if TYPE_CHECKING:
    from itmkit.index.answer import Answer
    from itmkit.index.search import CaptionHit, Hit


@click.command("search")
@click.argument("query", required=False)
@options.workspace_option
@click.option("--image", metavar="FILE|ID", help="A picture instead of words: like pictures, and captions of it.")
@click.option("--region", metavar="ID:NUMBER", help="A region of an indexed image: pictures with one like it.")
@click.option("-k", "count", type=click.IntRange(1), default=10, show_default=True, help="How many are shown.")
@click.option(
    "--rerank",
    type=click.IntRange(0),
    default=200,
    show_default=True,
    help="Candidates that the matcher scores; 0: the order of the candidates.",
)
@click.option("--index", "name", default="index", show_default=True, metavar="NAME", help="Folder of the index.")
@click.option("--open", "as_page", is_flag=True, help="Write search.html with the pictures, and open it.")
@options.models_option
@options.device_option
@options.json_option
def command(
    query: str | None,
    workspace: Workspace,
    image: str | None,
    region: str | None,
    count: int,
    rerank: int,
    name: str,
    as_page: bool,
    models: tuple[str, ...],
    device: str | None,
    as_json: bool,
) -> None:
    """Find the pictures of an index for a few words, a picture or a region.

    Candidates come from one vector an image; the matcher that made the index scores the best of them. Scores order the
    pictures of one query. They are no probabilities, and say nothing by themselves.

    \b
    Examples:
      itmkit search -w work "two dogs in the snow"
      itmkit search -w work "two dogs in the snow" -k 20 --rerank 1000 --open
      itmkit search -w work --image beach.jpg
      itmkit search -w work --image 1012212859_01547e3f17.jpg --json
      itmkit search -w work --region 1012212859_01547e3f17.jpg:3
    """
    from itmkit.commands import console
    from itmkit.errors import ItmkitError
    from itmkit.index.answer import answer_image, answer_region, answer_text
    from itmkit.index.open import behind_note, open_index
    from itmkit.report.search_page import write_page

    if sum(given is not None for given in (query, image, region)) != 1:
        raise ItmkitError('give one of: words to search for ("two dogs in the snow"), --image, --region')
    searcher = open_index(workspace, name, device=device, models=options.places_of(models))
    with searcher.matcher:
        if query is not None:
            answer = answer_text(workspace, searcher, query, count=count, rerank=rerank)
        elif image is not None:
            answer = answer_image(workspace, searcher, image, count=count, rerank=rerank)
        else:
            answer = answer_region(workspace, searcher, str(region), count=count)
    if note := behind_note(workspace, searcher.store):
        console.err.print(note)
    page = write_page(workspace, answer) if as_page else None
    if as_json:
        console.print_json(answer.to_json() | ({"page": str(page)} if page else {}))
    else:
        _show(answer)
        if page:
            console.out.print(f"page -> {page}")
    if page:
        webbrowser.open(page.as_uri())


def _show(answer: Answer) -> None:
    from itmkit.commands.console import out, table

    figures = ["rank", "candidate", "score"]
    regions = ["region"] if answer.kind == "region" else []
    scores = _scores(answer.hits)
    rows: list[list[object]] = []
    for hit, score in zip(answer.hits, scores, strict=True):
        region = [hit.region] if regions else []
        rows.append([hit.rank, hit.candidate_rank, score, *region, hit.image, answer.file_of(hit)])
    table(answer.title, [*figures, *regions, "image", "file"], rows, right=[*figures, *regions])
    if answer.captions:
        pairs = zip(answer.captions, _scores(answer.captions), strict=True)
        cells = [[hit.rank, hit.candidate_rank, score, hit.caption] for hit, score in pairs]
        table(answer.captions_title, [*figures, "caption"], cells, right=figures)
    for note in answer.notes:
        out.print(note)


def _scores(hits: Sequence[Hit] | Sequence[CaptionHit]) -> list[str]:
    """The matcher's scores, "-" where it gave none; where it gave none at all, those of the candidates."""
    if all(hit.score is None for hit in hits):
        return [f"{hit.candidate_score:.4f}" for hit in hits]
    return ["-" if hit.score is None else f"{hit.score:.4f}" for hit in hits]
