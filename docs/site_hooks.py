"""What the site has beside the pages of docs/: the reports of `make quickstart`, where it has run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent


def on_files(files: Files, config: Any) -> Files:
    """Adds quickstart/reports/*.html as reports/*.html."""
    for path in sorted((ROOT / "quickstart" / "reports").glob("*.html")):
        files.append(File.generated(config, f"reports/{path.name}", abs_src_path=str(path)))
    return files
