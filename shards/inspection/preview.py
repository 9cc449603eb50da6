"""``pal-shard preview``: a contact sheet of random clips, as a page or a picture."""

from __future__ import annotations

import base64
import html
import random
from pathlib import Path

from pal_ds import storage
from pal_ds.ffmpeg.probing import error_line
from pal_ds.ffmpeg.process import run_tool
from pal_ds.ffmpeg.reading import input_arguments
from pal_ds.formats import shardset
from pal_ds.formats.shardset import SampleEntry, SampleRecord
from pal_ds.pages.stylesheet import stylesheet
from pal_ds.storage.scratch import scratch_folder

from ..errors import BuildError, UsageError
from ..tar_members import read_sample

_FRAMES = 6
_WIDTH, _HEIGHT = 160, 120
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>{style}</style></head><body><main>
<h1>{title}</h1><p class="lead">{count} of {total} clips, drawn with seed {seed}</p>
{figures}
</main></body></html>
"""


def preview(dest: str, out: str, *, clips: int, seed: int) -> int:
    """Write a contact sheet of random clips to ``out`` (``.html`` or ``.png``); returns their number.

    Raises:
        UsageError: ``out`` is neither, or ``clips`` is not positive.
        ShardSetError: there is no finished set at ``dest``.
        BuildError: ffmpeg can't draw.
    """
    if not out.endswith((".html", ".png")) or clips < 1:
        raise UsageError(
            f"--out {out} --clips {clips}: give a file ending in .html or .png, and at least one clip"
        )
    manifest = shardset.load_manifest(dest)
    entries = [entry for split in manifest.splits.values() for entry in split.shards]
    total = sum(entry.clips for entry in entries)
    if total == 0:
        raise UsageError(f"{storage.redact(dest)}: has no clips")
    chosen = sorted(random.Random(seed).sample(range(total), min(clips, total)))
    with scratch_folder() as scratch:
        strips: list[tuple[Path, SampleRecord]] = []
        first = 0
        for entry in entries:
            mine = [number - first for number in chosen if first <= number < first + entry.clips]
            if mine:
                index = shardset.load_index(dest, entry.name)
                strips += [_strip(index.tar(dest), index.samples[number], scratch) for number in mine]
            first += entry.clips
        if out.endswith(".png"):
            data = _picture([path for path, _ in strips], scratch)
        else:
            data = _page(storage.redact(dest), strips, total, seed)
    storage.write_bytes(out, data)
    return len(strips)


def _strip(tar: str, entry: SampleEntry, scratch: Path) -> tuple[Path, SampleRecord]:
    """Draw a few frames of one clip side by side."""
    data = storage.read_range(tar, entry.offset, entry.offset + entry.size)
    sample = read_sample(data, entry)
    video = scratch / f"{entry.key}.{sample.video_extension}"
    video.write_bytes(sample.video)
    picture = scratch / f"{entry.key}.png"
    step = max(1, sample.record.frames // _FRAMES)
    filters = (
        f"select='not(mod(n,{step}))',scale={_WIDTH}:{_HEIGHT}:force_original_aspect_ratio=decrease,"
        f"pad={_WIDTH}:{_HEIGHT}:-1:-1:color=white,tile={_FRAMES}x1"
    )
    _draw([*input_arguments(str(video)), "-vf", filters, "-frames:v", "1", "-y", f"file:{picture}"], video)
    video.unlink()
    return picture, sample.record


def _picture(strips: list[Path], scratch: Path) -> bytes:
    sheet = scratch / "sheet.png"
    if len(strips) == 1:
        return strips[0].read_bytes()
    inputs = [argument for strip in strips for argument in ("-i", f"file:{strip}")]
    stack = ["-filter_complex", f"vstack=inputs={len(strips)}", "-frames:v", "1", "-y", f"file:{sheet}"]
    _draw([*inputs, *stack], sheet)
    return sheet.read_bytes()


def _page(title: str, strips: list[tuple[Path, SampleRecord]], total: int, seed: int) -> bytes:
    figures = "\n".join(_figure(path, record) for path, record in strips)
    page = _PAGE.format(
        title=html.escape(title),
        style=stylesheet(),
        count=len(strips),
        total=total,
        seed=seed,
        figures=figures,
    )
    return page.encode("utf-8", "backslashreplace")


def _figure(path: Path, record: SampleRecord) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    label = f" · {record.label}" if record.label else ""
    caption = (
        f"{record.source}{label} · {record.duration:.2f} s · {record.fps:g} fps · "
        f"{record.width}x{record.height} · {record.bytes} bytes"
    )
    text = html.escape(caption)
    picture = f'<img alt="{text}" src="data:image/png;base64,{data}">'
    return f'<figure>{picture}<figcaption class="note">{text}</figcaption></figure>'


def _draw(arguments: list[str], path: Path) -> None:
    finished = run_tool(["ffmpeg", "-hide_banner", "-nostdin", "-v", "error", *arguments], timeout=120.0)
    if finished.returncode != 0:
        raise BuildError(f"ffmpeg can't draw the sheet: {error_line(finished, path)}")
