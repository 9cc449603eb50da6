"""What MkDocs calls while it builds the site: pages from outside ``docs/``, generated pages, links."""

from __future__ import annotations

import logging

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.generate.api_pages import api_index, api_page, packages
from docs.generate.links import OUTSIDE, ROOT, BrokenLinkError, repository_place, rewrite
from docs.generate.options_page import options_page

log = logging.getLogger("mkdocs.plugins.pal_ds")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside ``docs/`` and those that are made from the code, and publish linked files."""
    for path, place in OUTSIDE.items():
        files.append(File.generated(config, place, content=(ROOT / path).read_text()))
    files.append(File.generated(config, "options.md", content=options_page()))
    files.append(File.generated(config, "api/index.md", content=api_index()))
    for package in packages():
        files.append(File.generated(config, f"api/{package}.md", content=api_page(package)))
    wanted: set[str] = set()
    for file in files.documentation_pages():
        if not file.src_uri.startswith("api/"):
            _rewritten(file.content_string, file.src_uri, wanted)
    for path in sorted(wanted):
        files.append(File.generated(config, f"files/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links to files of the repository links of the site."""
    del config, files
    if page.file.src_uri.startswith("api/"):
        return markdown
    return _rewritten(markdown, page.file.src_uri, set())


def _rewritten(markdown: str, place: str, wanted: set[str]) -> str:
    try:
        return rewrite(markdown, repository_place(place), wanted.add)
    except BrokenLinkError as error:
        log.warning("%s", error)  # strict mode makes it an error
        return markdown
