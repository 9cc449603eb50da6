"""The probes: a linear one that finds a planted leak, and a network that learns planted motion."""

from __future__ import annotations

import pytest
import torch

probe = pytest.importorskip("corpora.mocap.probe", reason="torchcodec is not installed", exc_type=ImportError)


def test_linear_probe_finds_a_leak_and_only_a_leak():
    rng = torch.Generator().manual_seed(0)
    labels, asked = torch.arange(90) % 3, torch.arange(60) % 3
    noise, other = torch.randn(90, 40, generator=rng), torch.randn(60, 40, generator=rng)
    clean = probe.linear_probe(noise, labels, other, asked)
    assert clean["val"] < 60
    noise[:, :3] += 4 * torch.eye(3)[labels]
    other[:, :3] += 4 * torch.eye(3)[asked]
    assert probe.linear_probe(noise, labels, other, asked)["val"] > 90


def test_network_sees_nothing_in_a_still_picture():
    from corpora.mocap.probe_net import changes

    still = torch.rand(1, 1, 56, 56).expand(1, 34, 56, 56) * 255
    assert changes(still).abs().max() == 0


@pytest.mark.slow
def test_network_tells_fast_from_slow_motion():
    from corpora.mocap.probe_data import Clips
    from corpora.mocap.probe_net import predict, train

    rng = torch.Generator().manual_seed(1)
    labels = torch.arange(32) % 2
    grey = torch.zeros(32, 70, 64, 64, dtype=torch.uint8)
    for clip, label in zip(grey, labels.tolist(), strict=True):
        row, phase = (int(torch.randint(10, 40, (1,), generator=rng)) for _ in range(2))
        for number, frame in enumerate(clip):
            column = (phase + number * (1, 5)[label]) % 52
            frame[row : row + 10, column : column + 10] = 220
    clips = Clips(first_n3hw=grey[:, :1], middle_n3hw=grey[:, :1], grey_nthw=grey, labels_n=labels)
    net = train(clips, 2, 20, 0, lambda _: None)
    right = predict(net, clips).argmax(dim=1) == labels
    assert right.float().mean() > 0.85


def test_command_line_reads_a_corpus_and_names_a_wrong_one(corpus, tmp_path, capsys):
    assert probe.main(["--corpus", str(tmp_path)]) == 2
    assert "make it with" in capsys.readouterr().err
    clips = probe.load(corpus, "val")
    assert clips.grey_nthw.shape == (18, 20, 64, 64)
    assert clips.labels_n.tolist() == list(range(18))
    first, middle = probe.pixels(clips.first_n3hw), probe.pixels(clips.middle_n3hw)
    assert first.shape == (18, 3072)
    assert not torch.equal(first, middle)
