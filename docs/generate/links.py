"""Links that are right in the repository, made right in the site.

Pages link to files by their place in the repository (``../benchmarks/evidence/README.md``), so that they work
wherever the repository is looked at. In the site such a page lies elsewhere, and a file that is no page is published
as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
#: Pages of the site that lie outside ``docs/``: place in the site by place in the repository.
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "corpora/mocap/README.md": "corpora/mocap.md",
    **{
        f"benchmarks/{path.parent.name}/README.md": f"benchmarks/{path.parent.name}.md"
        for path in sorted((ROOT / "benchmarks").glob("*/README.md"))
    },
}
_LINK = re.compile(r"(?<!\\)\]\((?P<target>[^)\s]+)\)")
_FENCE = re.compile(r"^\s*(```|~~~)")


class BrokenLinkError(ValueError):
    """A link to a file that the repository lacks."""


def site_place(repository_path: str) -> str:
    """Return where a file of the repository lies in the site."""
    if repository_path in OUTSIDE:
        return OUTSIDE[repository_path]
    if repository_path.startswith("docs/"):
        return repository_path.removeprefix("docs/")
    return f"files/{repository_path}"


def repository_place(site_path: str) -> str:
    """Return where a page of the site lies in the repository."""
    inside = {place: path for path, place in OUTSIDE.items()}
    return inside.get(site_path, f"docs/{site_path}")


def rewrite(markdown: str, page: str, publish: Callable[[str], None]) -> str:
    """Return a page with its links to files of the repository made links of the site.

    Args:
        markdown: the page's text.
        page: its place in the repository.
        publish: called with the place of every linked file that is no page.

    Raises:
        BrokenLinkError: a link leads nowhere.
    """
    lines, fenced = [], False
    for line in markdown.splitlines():
        fenced ^= bool(_FENCE.match(line))
        linked = (
            line if fenced else _LINK.sub(lambda found: f"]({_target(found['target'], page, publish)})", line)
        )
        lines.append(linked)
    return "\n".join(lines) + "\n"


def _target(target: str, page: str, publish: Callable[[str], None]) -> str:
    path, hash_mark, anchor = target.partition("#")
    if not path or ":" in path:
        return target
    inside = os.path.normpath(PurePosixPath(page).parent / path)
    if not (ROOT / inside).is_file():
        raise BrokenLinkError(f"{page}: {target} is no file of the repository")
    place = site_place(inside)
    if place.startswith("files/"):
        publish(inside)
    return os.path.relpath(place, PurePosixPath(site_place(page)).parent) + hash_mark + anchor
