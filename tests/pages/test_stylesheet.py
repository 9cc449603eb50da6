"""One stylesheet for every page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pal_ds.pages.stylesheet import stylesheet

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("pal_ds", "shards", "corpora", "launch", "benchmarks")


@pytest.mark.parametrize("more", ["", "actions"])
def test_it_can_stand_in_a_style_element_and_fetches_nothing(more):
    css = stylesheet(more)
    assert "</" not in css
    assert not re.search(r"url\(|@import|https?:", css)
    assert css.count("{") == css.count("}")


def test_every_variable_that_is_used_is_set_for_both_schemes():
    css = stylesheet()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    used = set(re.findall(r"var\((--[a-z]+)\)", stylesheet("actions"))) - {"--hue"}
    for scheme in (light, dark):
        assert used <= set(re.findall(r"(--[a-z]+):", scheme))


def test_no_page_has_styles_of_its_own():
    pages = [
        path
        for top in TOPS
        for path in (ROOT / top).rglob("*")
        if path.suffix in {".py", ".html", ".jinja"} and "<style" in path.read_text()
    ]
    assert len(pages) >= 5
    for path in pages:
        inside = re.findall(r"<style>(.*?)</style>", path.read_text(), re.DOTALL)
        assert inside, path
        assert all(re.fullmatch(r"\s*(\{\{ style \| safe \}\}|\{style\})\s*", text) for text in inside), path
