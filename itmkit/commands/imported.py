"""What import-features tells about an import."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from itmkit.commands.console import out, print_json

if TYPE_CHECKING:
    from itmkit.import_features.write_sets import SetsResult

SHOWN = 20  # skipped pictures
SHOWN_DAMAGED = 10


def show_sets(result: SetsResult, as_json: bool) -> None:
    if as_json:
        print_json(asdict(result))
        return
    if result.unchanged:
        out.print(f"{result.path}: complete, made from these files; nothing to do")
        return
    out.print(
        f"{result.images} pictures (found by {result.matched_by}), up to {result.regions} regions x {result.dim}"
        f" with {', '.join(result.extras)} -> {result.path}"
    )
    if result.repeated:
        out.print(f"{result.repeated} records repeat an earlier one byte for byte and were taken once")
    show_damaged(result.damaged, result.path)
    if result.left_out:
        out.print(f"{result.left_out} pictures of the files are not in the data set and were left out")
    if result.skipped:
        place = result.path / "manifest.json"
        out.print(f"{len(result.skipped)} pictures of the data set skipped (all are listed in {place}):")
        for item in result.skipped[:SHOWN]:
            out.print(f"  {item['id']}: {item['reason']}")
        if len(result.skipped) > SHOWN:
            out.print(f"  and {len(result.skipped) - SHOWN} more")


def show_damaged(damaged: list[dict[str, str]], cache: Path) -> None:
    if not damaged:
        return
    listed = f"all are listed in {cache / 'manifest.json'}"
    out.print(f"{len(damaged)} records cannot be used and were left out ({listed}):", markup=False, soft_wrap=True)
    for item in damaged[:SHOWN_DAMAGED]:
        out.print(f"  {item['place']}: {item['reason']}", markup=False, soft_wrap=True)
    if len(damaged) > SHOWN_DAMAGED:
        out.print(f"  and {len(damaged) - SHOWN_DAMAGED} more")
