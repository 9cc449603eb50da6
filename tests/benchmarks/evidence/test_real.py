"""Real footage: what is read of it, that a knowing encoder finds its stretch, and a blind one does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.evidence import real
from benchmarks.evidence.references.pictures import motion
from corpora import footage
from tests.support.clips import make_video


def turning_colours(seconds: float = 16.0) -> torch.Tensor:
    """Frames whose colour turns once around over the piece: every moment has one of its own."""
    angle = torch.linspace(0, 2 * np.pi, int(seconds * real.FPS))
    colour = torch.stack([torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)], dim=1)
    return (128 + 100 * colour)[:, :, None, None].expand(-1, -1, 24, 32).to(torch.uint8)


def colours(clips_btchw: torch.Tensor) -> torch.Tensor:
    return clips_btchw.float().mean(dim=(1, 3, 4))


def blind(clips_btchw: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(clips_btchw))
    return torch.randn(len(clips_btchw), 16, generator=generator)


def test_a_stretch_is_found_by_who_sees_it_and_not_by_who_guesses() -> None:
    pieces = [("a", turning_colours()), ("c", turning_colours(12.0))]
    found = {"colours": real.search(pieces, colours), "blind": real.search(pieces, blind)}
    assert found["colours"].recordings == ["a"] * 7 + ["c"] * 5
    figures = real.estimates(found)
    assert figures["colours"]["value"] > 45
    assert figures["blind"]["value"] < 35
    assert figures["colours"]["recordings"] == 2
    lines = real.table(figures, "blind")
    assert next(line for line in lines if line.startswith("| blind")).endswith("|  |")
    assert any(line.startswith("| colours | 1 | ") and " | +" in line for line in lines)


def test_seeds_of_one_name_are_averaged() -> None:
    pieces = [("a", turning_colours()), ("b", turning_colours(10.0))]
    seeing, guessing = real.search(pieces, colours), real.search(pieces, blind)
    alone = real.estimates({"x": seeing, "y": guessing})
    both = real.estimates({"z-seed0": seeing, "z-seed1": guessing})
    assert both["z"]["seeds"] == 2
    mean = (alone["x"]["value"] + alone["y"]["value"]) / 2
    assert both["z"]["value"] == pytest.approx(mean)


def test_a_recording_is_read_at_the_rate_and_size_of_the_corpus(tmp_path: Path) -> None:
    video = make_video(tmp_path / "long.mp4", seconds=27, fps=24, size="192x144")
    pieces = list(real.read_pieces(video))
    assert [len(piece) for piece in pieces] == [20 * real.FPS, 7 * real.FPS]
    assert pieces[0].shape[1:] == (3, real.SIDE, 85)
    assert list(real.read_pieces(make_video(tmp_path / "short.mp4", seconds=5, fps=24))) == []


def test_the_command_measures_once_and_shows_all_that_is_kept(tmp_path: Path, monkeypatch, capsys) -> None:
    for name in ("a.mp4", "b.mp4"):
        make_video(tmp_path / name, seconds=7, fps=12, hue=40)
    recordings = [footage.Recording("p", "m", name, "label", "train") for name in ("a.mp4", "b.mp4")]
    monkeypatch.setattr(real.footage, "fetch", lambda folder, say: recordings)
    kept = tmp_path / "kept"
    words = ["--footage", str(tmp_path), "--kept", str(kept)]
    assert real.main([*words, "--checkpoint", "net-seed0=random:tsm_resnet8"]) == 0
    assert {path.stem for path in kept.iterdir()} == {"thumbnails", "six motion numbers", "net-seed0"}
    assert "| net | 1 | " in capsys.readouterr().out
    monkeypatch.setattr(real, "search", lambda *_: pytest.fail("measured again"))
    assert real.main([*words, "--against", "thumbnails"]) == 0
    shown = capsys.readouterr().out
    assert "| net | 1 | " in shown and "| a guess |  | " in shown and "above thumbnails" in shown
    with pytest.raises(SystemExit):
        real.main([*words, "--against", "nobody"])
    assert "--against nobody: use one of" in capsys.readouterr().err
    other = json.loads((kept / "thumbnails.json").read_text())
    other["recordings"] = ["c.mp4" for _ in other["recordings"]]
    (kept / "other.json").write_text(json.dumps(other))
    with pytest.raises(SystemExit):
        real.main(words)
    assert "of other recordings" in capsys.readouterr().err


def test_a_checkpoint_without_a_name_is_refused(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        real.main(["--footage", str(tmp_path), "--checkpoint", "=runs/a"])
    assert "NAME=RUN" in capsys.readouterr().err


def test_references_are_scaled_by_how_much_they_vary() -> None:
    piece = torch.randint(0, 255, (64, 3, 16, 16), dtype=torch.uint8)
    encode = real.standardised(motion, [piece])
    rows = encode(piece.reshape(8, 8, 3, 16, 16))
    assert rows.shape == (8, 8)
    np.testing.assert_allclose(rows[:, :6].std(dim=0, unbiased=False).numpy(), 1.0, atol=1e-3)
