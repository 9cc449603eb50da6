"""Decoding on CUDA behind the decoder's interface: what can be shown without one, and pixels where there is one."""

import pytest
import torch
from tests.support.loading import loader_of

from pal_ds.config.base import ConfigError
from pal_ds.config.data import DataConfig
from pal_ds.data import decode
from pal_ds.data.errors import ClipDecodeError, DecoderUnavailableError
from tests.support.tiny_shards import HEIGHT, WIDTH, encode, sample

INDICES = [40, 3, 3, 89, 0]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture
def clip():
    record, video = sample("clip.mp4", encode(1, 90), 90)
    return video, record


@without_cuda
def test_cuda_is_refused_where_there_is_none(shard_url):
    with pytest.raises(ConfigError, match=r"data\.decode_device = 'cuda': this process sees no CUDA device"):
        loader_of(shard_url, decode_device="cuda")


@without_cuda
def test_a_decoder_without_cuda_is_no_fault_of_the_clip(clip):
    with pytest.raises(DecoderUnavailableError, match="install a build with CUDA"):
        decode.decode_frames(*clip, INDICES, device="cuda:0")


def test_forked_workers_cannot_decode_on_cuda():
    with pytest.raises(ConfigError, match=r"data\.start_method"):
        DataConfig(decode_device="cuda", start_method="fork", workers=1)
    with pytest.raises(ConfigError, match=r"data\.decode_device"):
        DataConfig(decode_device="gpu")


def test_workers_are_told_the_device_of_their_rank(shard_url, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert loader_of(shard_url, decode_device="cuda")._spec.device == "cuda:3"
    assert loader_of(shard_url)._spec.device == "cpu"


def test_the_same_frames_are_asked_of_any_device_in_one_call(clip, monkeypatch):
    """The CPU decoder stands in for the video engine: what is asked of it must not depend on the device."""
    asked = []

    class Spy(decode.VideoDecoder):
        def __init__(self, video, *, device, **options):
            asked.append((device, options))
            super().__init__(video, device="cpu", **options)

        def get_frames_at(self, indices):
            asked.append(indices)
            return super().get_frames_at(indices)

    monkeypatch.setattr(decode, "VideoDecoder", Spy)
    frames = [decode.decode_frames(*clip, INDICES, device=device) for device in ("cpu", "cuda:1")]
    assert torch.equal(*frames)
    (cpu, cpu_options), cpu_indices, (cuda, cuda_options), cuda_indices = asked
    assert (cpu, cuda) == ("cpu", "cuda:1")
    assert cpu_options == cuda_options
    assert cpu_indices == cuda_indices == INDICES
    record = clip[1]
    with pytest.raises(ClipDecodeError, match="frames instead of"):
        decode.decode_frames(clip[0][: len(clip[0]) // 2], record, INDICES, device="cuda:1")


@needs_cuda
def test_the_video_engine_gives_the_same_frames_within_a_few_grey_levels():
    record, video = sample("clip.mp4", encode(1, 90, width=192, height=144), 90, width=192, height=144)
    cpu = decode.decode_frames(video, record, INDICES)
    cuda = decode.decode_frames(video, record, INDICES, device="cuda").cpu()
    assert cuda.shape == cpu.shape == (len(INDICES), 144, 192, 3) != (len(INDICES), HEIGHT, WIDTH, 3)
    difference = (cuda.int() - cpu.int()).abs().float()
    assert difference.mean() < 2
    assert difference.max() <= 16
