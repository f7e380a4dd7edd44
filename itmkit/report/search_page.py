"""What a search found as one page: it opens from disk, holds its pictures, runs no script and loads nothing."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path

from PIL import Image

from itmkit.files import check_replaces, write_text
from itmkit.index.answer import Answer
from itmkit.index.search import Hit
from itmkit.pictures.decode import Decoder
from itmkit.pictures.load import ChangedImage, UnreadableImage
from itmkit.workspace import Workspace

NAME = "search.html"
SIDE = 320  # pixels, of a thumbnail
_MARK = '<meta name="generator" content="itmkit search">'
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: #222;
  background: #fff }
h1 { font-size: 1.3rem } h2 { font-size: 1.05rem; margin-top: 2rem }
ol.pictures { list-style: none; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)) }
ol.pictures li { border: 1px solid #ddd; border-radius: 6px; overflow: hidden }
img { display: block; width: 100%; height: 13rem; object-fit: contain; background: #f2f2f2 }
.none { height: 13rem; display: grid; place-items: center; background: #f2f2f2; color: #666 }
.says { padding: .5rem .7rem } .says p { margin: .2rem 0; overflow-wrap: anywhere } .small { color: #595959;
  font-size: .85rem }
td, th { padding: .2rem .8rem .2rem 0; text-align: left } td.figure { text-align: right }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #e4e4e4 } .small, .none { color: #a8a8a8 }
  img, .none { background: #222 } ol.pictures li { border-color: #3a3a3a } }
"""


def write_page(workspace: Workspace, answer: Answer) -> Path:
    """Writes `search.html` into the workspace. What an earlier search wrote there is replaced.

    Raises:
        ItmkitError: the file there is not one of these pages.
    """
    path = workspace.root / NAME
    check_replaces(path, _is_page, "a page of `itmkit search`")
    decoder = Decoder()
    try:
        cards = "\n".join(_card(workspace, answer, hit, decoder) for hit in answer.hits)
    finally:
        decoder.close()
    notes = "".join(f"<p>{_text(note)}</p>" for note in answer.notes)
    write_text(
        path,
        f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
{_MARK}
<title>{_text(answer.query)} - itmkit search</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{_text(answer.title)}</h1>
{notes}
<ol class="pictures">
{cards}
</ol>
{_captions(answer)}
<p class="small">Scores order the pictures of one query. They are no probabilities.</p>
</body>
</html>
""",
    )
    return path


def _is_page(path: Path) -> bool:
    with open(path, "rb") as file:
        return _MARK.encode() in file.read(1000)


def _card(workspace: Workspace, answer: Answer, hit: Hit, decoder: Decoder) -> str:
    record = answer.records.get(hit.image)
    captions = "".join(f"<p><bdi>{_text(caption.text)}</bdi></p>" for caption in (record.captions if record else ()))
    thumbnail = _thumbnail(workspace.image_path(record.file), decoder) if record is not None and record.file else None
    picture = f'<img src="{thumbnail}" alt="{_text(hit.image)}">' if thumbnail else '<div class="none">no picture</div>'
    score = hit.candidate_score if hit.score is None else hit.score
    region = f", region {hit.region}" if hit.region is not None else ""
    return (
        f'<li>{picture}<div class="says"><p><b>{hit.rank}</b> <bdi>{_text(hit.image)}</bdi></p>'
        f'<p class="small">candidate {hit.candidate_rank}, score {score:.4f}{region}</p>{captions}</div></li>'
    )


def _captions(answer: Answer) -> str:
    if not answer.captions:
        return ""
    rows = ""
    for hit in answer.captions:
        score = hit.candidate_score if hit.score is None else hit.score
        figures = "".join(f'<td class="figure">{each}</td>' for each in (hit.rank, hit.candidate_rank, f"{score:.4f}"))
        rows += f"<tr>{figures}<td><bdi>{_text(hit.caption)}</bdi></td></tr>\n"
    heads = "<tr><th>rank</th><th>candidate</th><th>score</th><th>caption</th></tr>"
    return f"<h2>{_text(answer.captions_title)}</h2>\n<table>{heads}\n{rows}</table>"


def _thumbnail(path: Path, decoder: Decoder) -> str | None:
    """A data URI; None if the picture cannot be read, or is gone."""
    try:
        image = decoder.decode(path, None).image
    except (UnreadableImage, ChangedImage):
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def _text(text: str) -> str:
    """As it may stand in a page, in an attribute too; bytes of a file name that are no text are written out."""
    return escape(text.encode("utf-8", "backslashreplace").decode("utf-8"), quote=True)
