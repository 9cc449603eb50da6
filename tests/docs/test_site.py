"""The site's own parts: links, the options reference, the sections that docstrings cite."""

import re
from pathlib import Path

import pytest

from docs.generate.api_pages import api_page, packages
from docs.generate.docstrings import as_markdown
from docs.generate.links import ROOT, BrokenLinkError, rewrite
from docs.generate.options_page import COMMANDS, allowed_values, options_page
from pal_ds.config import SynthesisConfig, describe
from pal_ds.config.run import RunSection, ScheduleConfig
from tests.layout.test_imports import ARROWS

SECTIONS = {
    "design": [
        *("Synthesis", "Order of data", "Workers and memory", "Objective and queue", "Training loop"),
        *("Checkpoints and resume", "Failures and signals", "Validation", "Extraction"),
        "Heads and evaluators",
    ],
    "formats": ["Shard set", "Run folder", "Checkpoint", "Features", "Exit statuses"],
}


@pytest.mark.parametrize("name", SECTIONS)
def test_sections_that_docstrings_cite_are_there(name: str):
    found = re.findall(r"^## (.+)$", (ROOT / f"docs/{name}.md").read_text(), re.MULTILINE)
    assert [section for section in found if section in SECTIONS[name]] == SECTIONS[name]


def test_imports_go_down_the_levels_of_the_design():
    rows = re.findall(r"^\| (\d) \| (.+?) \|", (ROOT / "docs/design.md").read_text(), re.MULTILINE)
    level = {name: int(number) for number, names in rows for name in re.findall(r"`([\w.]+)`", names)}
    assert set(level) == set(ARROWS)
    for name, targets in ARROWS.items():
        for target in targets:
            assert level[target] < level[name], f"{name} imports {target}"


def test_links_become_those_of_the_site():
    published: list[str] = []
    text = "[a](../benchmarks/evidence/README.md#figures) [b](design.md) [c](../LICENSE)\n```\n[d](nowhere.md)\n```"
    found = rewrite(text, "docs/transfer.md", published.append)
    assert found == (
        "[a](benchmarks/evidence.md#figures) [b](design.md) [c](files/LICENSE)\n```\n[d](nowhere.md)\n```\n"
    )
    assert published == ["LICENSE"]
    assert rewrite("![o](docs/design.md)", "README.md", published.append) == "![o](design.md)\n"
    assert rewrite("[o](https://example.org)", "README.md", published.append) == "[o](https://example.org)\n"


def test_make_docs_is_strict_and_not_quiet():
    # mkdocs counts no warning with --quiet, so that --strict would let everything pass.
    (line,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if "mkdocs build" in line]
    assert "--strict" in line
    assert not {"-q", "--quiet"} & set(line.split())


def test_a_broken_link_is_an_error():
    with pytest.raises(BrokenLinkError, match=r"docs/design\.md: nowhere\.md"):
        rewrite("see [this](nowhere.md)", "docs/design.md", lambda _: None)


def test_shapes_in_docstrings_are_no_links():
    text = "Keys of :class:`~pal_ds.Clip`, [B, T][N] and [0, 1] [N, 2], not ``[@WIDTH][#SEED]``."
    wanted = r"Keys of `pal_ds.Clip`, [B, T]\[N] and [0, 1] \[N, 2], not ``[@WIDTH][#SEED]``."
    assert as_markdown(text) == wanted


def test_every_option_is_in_the_reference():
    page = options_page()
    names = [name for _, _, kind in COMMANDS for name, _, _ in describe(kind)]
    assert len(names) > 150
    for name in names:
        assert f"| `{name}` |" in page


def test_allowed_values_are_those_that_the_section_names():
    assert "different, same, own, none or boundary" in allowed_values(SynthesisConfig, "synthesis.", "paste")
    assert "plateau, step, cosine, constant" in allowed_values(ScheduleConfig, "schedule.", "name")
    assert allowed_values(RunSection, "run.", "epochs") == "whole number; at least 1"


def test_the_api_reference_has_every_package():
    folders = {path.parent.name for path in (ROOT / "pal_ds").glob("*/__init__.py")}
    assert {name.removeprefix("pal_ds.") for name in packages()} == folders | {"shards"}
    assert "::: pal_ds.models.backbones" in api_page("pal_ds.models")


def test_no_document_leaves_a_blank_row():
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for line in path.read_text().splitlines():
            assert not re.fullmatch(r"\| *PAL, yours.*", line), path


def test_paths_in_documents_exist():
    named = re.compile(r"`((?:pal_ds|shards|launch|corpora|benchmarks|configs|docs)/[\w/.-]+\.\w+)`")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for found in named.findall(path.read_text()):
            assert Path(ROOT / found).exists(), f"{path.name}: {found}"
