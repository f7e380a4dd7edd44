"""itmkit merge: one cache of the parts that several jobs wrote."""

from __future__ import annotations

from pathlib import Path

import click

from itmkit.commands import options
from itmkit.workspace import Workspace


@click.command("merge")
@options.workspace_option
@click.option("--cache", metavar="NAME", help="One cache, such as regions; by default all that are in parts.")
@options.json_option
def command(workspace: Workspace, cache: str | None, as_json: bool) -> None:
    """Merge the parts that jobs with --shard i/n wrote into one cache.

    The result is what one job would have written. If parts are missing or unfinished, they are named and nothing
    changes. The parts must be in one folder. If they number their names (words, tags) differently, their shards are
    written anew with common numbers, which needs room for a second copy.

    \b
    Example: itmkit extract-regions -w work --shard 0/2     (one job)
             itmkit extract-regions -w work --shard 1/2     (another)
             itmkit merge -w work
    """
    from itmkit.cache import merge_parts
    from itmkit.cache.manifest import parts_in
    from itmkit.cache.parts import merging_in
    from itmkit.commands import console
    from itmkit.errors import ItmkitError

    folders = workspace.caches_with("manifest.part-*.json") if cache is None else [workspace.cache(cache)]
    merged, problems = [], []
    for folder in folders:
        of = len(parts_in(merging_in(folder)))
        try:
            manifest = merge_parts(folder)
        except ItmkitError as error:
            problems += error.problems
        else:
            merged.append({"path": str(folder), "parts": of, "rows": manifest.count, "shards": len(manifest.shards)})
    if as_json and not problems:
        console.print_json(merged)
    else:
        for one in merged:
            path, shards = Path(str(one["path"])), f"{one['rows']:,} rows in {one['shards']} shards"
            console.out.print(f"{path}: {shards}, of {one['parts']} parts" if one["parts"] else f"{path}: is whole")
        if not folders:
            console.out.print(f"{workspace.root / 'caches'}: no cache lies in parts; nothing to merge")
    if problems:
        raise ItmkitError(problems)
