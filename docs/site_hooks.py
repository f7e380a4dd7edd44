"""What the site has beside the pages of docs/: the reports of the quickstart, where it has run and they were made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

REPORTS = Path(__file__).resolve().parent.parent / "quickstart" / "reports"


def on_files(files: Files, config: Any) -> Files:
    """Adds quickstart/reports/*.html as reports/*.html."""
    for path in sorted(REPORTS.glob("*.html")):
        files.append(File.generated(config, f"reports/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **more: Any) -> str:
    """The page about reports names them."""
    names = sorted(path.name for path in REPORTS.glob("*.html"))
    if page.file.src_uri != "report.md" or not names:
        return markdown
    return markdown + "\n## Examples\n\nOf the scenes:\n\n" + "".join(f"- [{name}](reports/{name})\n" for name in names)
