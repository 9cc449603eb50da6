"""What the doctor looks at on the machine: packages, decoding, device, limits."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import re
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from pal_ds.doctor.finding import Finding, fail, ok, warn
from pal_ds.planning.hardware import find_gpu
from pal_ds.planning.step_estimate import gpu_videos_per_second
from pal_ds.storage.errors import first_line

if TYPE_CHECKING:
    from torch import Tensor

#: Modules whose import fails where a build does not fit the machine, and what to do then.
_BUILDS = {
    "torch": "reinstall torch for this CUDA or CPU (https://pytorch.org/get-started/locally)",
    "torchcodec": "install the torchcodec release made for this torch, CPU or CUDA build alike, and FFmpeg 4 to 8",
    "deepspeed": "DS_ACCELERATOR=cpu DS_BUILD_OPS=0 pip install --no-build-isolation --force-reinstall --no-deps "
    "deepspeed, after torch; the variables are for this one command, so that no nvcc or compiler is asked for",
}
_CLIP = "testsrc2=size=176x128:rate=25:duration=10"
_CLIP_FRAMES = 250
#: A library's error in a table of findings.
_told = functools.partial(first_line, most=200)


def packages(importer: Callable[[str], object] = importlib.import_module) -> list[Finding]:
    """Check installed versions against what the package asks for, and that compiled parts load."""
    findings = []
    for requirement in _requirements():
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            findings.append(
                fail(
                    requirement.name,
                    "not installed",
                    f"pip install '{requirement.name}{requirement.specifier}'",
                )
            )
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            fix = f"pip install '{requirement.name}{requirement.specifier}'"
            findings.append(fail(requirement.name, f"{found}, needs {requirement.specifier}", fix))
    for module, fix in _BUILDS.items():
        try:
            importer(module)
        except Exception as error:
            findings.append(fail(module, f"does not load: {_told(error)}", fix))
        else:
            findings.append(ok(module, importlib.metadata.version(module)))
    return findings


def ffmpeg(which: Callable[[str], str | None] = shutil.which) -> list[Finding]:
    """Check the ffmpeg command, which sharding needs, and the libraries that torchcodec loaded."""
    if which("ffmpeg") is None:
        return [
            fail(
                "ffmpeg", "the ffmpeg command is missing", "apt-get install ffmpeg (or conda install ffmpeg)"
            )
        ]
    banner = _output(["ffmpeg", "-hide_banner", "-version"])
    version = re.search(r"ffmpeg version (\S+)", banner)
    text = version[1] if version else "unknown version"
    if "libx264" not in _output(["ffmpeg", "-hide_banner", "-encoders"]):
        fix = "install a build with libx264; reading shards works without"
        return [warn("ffmpeg", f"{text} without libx264: pal-shard can't encode", fix)]
    return [ok("ffmpeg", f"{text} with libx264")]


def decoding() -> list[Finding]:
    """Decode a clip made here, and compare what a core decodes with what the GPU trains."""
    import torch

    frames, rate = _decode_generated()
    if float(frames.float().std()) < 1.0:
        fix = "the decoder returns blank frames: reinstall torchcodec and FFmpeg"
        return [fail("decoding", "a generated clip decodes to a blank picture", fix)]
    findings = [ok("decoding", f"{len(frames)} frames of a generated clip; {rate:.0f} clips/s on one core")]
    if torch.cuda.is_available():
        findings.append(
            enough_cores(
                len(os.sched_getaffinity(0)), torch.cuda.device_count(), torch.cuda.get_device_name(0), rate
            )
        )
    return findings


def enough_cores(cores: int, gpus: int, gpu_name: str, rate: float) -> Finding:
    """Compare the decoding that these cores can do with what these GPUs can train.

    Args:
        cores: cores of this host that the process may use.
        gpus: GPUs of this host.
        gpu_name: as CUDA names them.
        rate: clips decoded per second and core.
    """
    gpu = find_gpu(gpu_name)
    if gpu is None:
        return ok("cores", f"{cores / gpus:.0f} a GPU; the speed of {gpu_name} is not known here")
    wanted = gpu_videos_per_second(gpu)
    needed = wanted / rate
    text = f"{cores / gpus:.0f} a GPU; {gpu.name} can train {wanted:.0f} videos/s, for which {needed:.0f} are needed"
    if cores / gpus >= needed:
        return ok("cores", text)
    share = 100 * cores / gpus / needed
    fix = f"expect about {share:.0f} % of the GPU; ask for more cores a GPU, or shard with --profile fast"
    return warn("cores", text, fix)


def device() -> list[Finding]:
    """Look for GPUs that torch can't use, and for library versions known to compute wrongly or slowly."""
    import torch

    if not torch.cuda.is_available():
        if Path("/dev/nvidiactl").exists() or Path("/dev/nvidia0").exists():
            build = torch.version.cuda or "no CUDA"
            fix = "install a CUDA build of torch that the driver supports (nvidia-smi shows its CUDA version)"
            return [fail("device", f"there is an NVIDIA GPU, but torch ({build}) can't use it", fix)]
        return [ok("device", "no GPU; runs use the CPU")]
    findings = []
    if os.environ.get("DS_ACCELERATOR") == "cpu":
        text = "DS_ACCELERATOR=cpu is exported: runs refuse to leave the GPU unused in silence"
        findings.append(fail("device", text, "unset DS_ACCELERATOR; to train on the CPU set run.device=cpu"))
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        findings.append(
            ok(f"device {number}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
        )
        if properties.major < 8:
            fix = "use precision=fp16"
            findings.append(warn(f"device {number}", "has no bf16 arithmetic of its own", fix))
    findings += cudnn_findings(torch.__version__, torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    return findings


def cudnn_findings(torch_version: str, cudnn: int | None) -> list[Finding]:
    """Judge a pair of torch and cuDNN: 9.10 to 9.14 have slow and partly wrong bf16 3D convolutions.

    Args:
        torch_version: as torch names itself.
        cudnn: as ``torch.backends.cudnn.version()`` says, e.g. 91501; None without cuDNN.
    """
    if cudnn is None:
        return [fail("cudnn", "torch has no cuDNN", "install torch's CUDA wheels, which bring it")]
    major, minor = cudnn // 10000, cudnn // 100 % 100
    text = f"{major}.{minor}.{cudnn % 100} with torch {torch_version}"
    if major == 9 and 10 <= minor <= 14:
        fix = "pip install 'nvidia-cudnn-cu12>=9.15' (cu13 with CUDA 13), or precision=fp32"
        return [fail("cudnn", f"{text}: bf16 3D convolutions are slow or wrong", fix)]
    return [ok("cudnn", text)]


def video_engine() -> list[Finding]:
    """Decode a clip by the GPU's video engine, for data.decode_device=cuda, and see that the CPU didn't do it."""
    import torch

    if not torch.cuda.is_available():
        return []
    from torchcodec.decoders import VideoDecoder

    fix = "data.decode_device=cpu works without; in a container set NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
    try:
        decoder = VideoDecoder(_make_clip(), device="cuda:0")
        decoder[0]
    except (RuntimeError, ValueError) as error:
        return [warn("video engine", f"torchcodec can't decode on the GPU: {_told(error)}", fix)]
    return [fallback_finding(getattr(decoder, "cpu_fallback", None), fix)]


def fallback_finding(status: object, fix: str) -> Finding:
    """Judge what a decoder says of its own fallback; None where this torchcodec says nothing."""
    if status is None:
        return ok("video engine", "decodes; this torchcodec does not say whether the GPU or the CPU did it")
    if status:
        return warn("video engine", f"the CPU decoded instead, in silence: {status}", fix)
    return ok("video engine", "the GPU decodes (NVDEC)")


def half_precision() -> list[Finding]:
    """Measure whether bf16 3D convolutions are right here; where not, the backbone would run in fp32."""
    import torch

    from pal_ds.models.layers.half_precision import half_conv3d_is_sound

    kind = "cuda" if torch.cuda.is_available() else "cpu"
    if half_conv3d_is_sound(kind, torch.bfloat16):
        return [ok("half precision", f"bf16 3D convolutions and their gradients are right on this {kind}")]
    fix = "use precision=fp32 here; " + (
        "update cuDNN to 9.15 or newer" if kind == "cuda" else "the backbone falls back to fp32 by itself"
    )
    return [warn("half precision", f"bf16 3D convolutions are wrong on this {kind}", fix)]


def communication() -> list[Finding]:
    """Join a process group of one rank and reduce: finds broken NCCL, host names and interface settings."""
    import torch
    import torch.distributed as dist

    cuda = torch.cuda.is_available()
    backend = "nccl" if cuda else "gloo"
    if cuda and not dist.is_nccl_available():
        return [fail("communication", "this torch has no NCCL", "install torch's CUDA wheels for Linux")]
    if dist.is_initialized():
        return [ok("communication", f"a process group ({dist.get_backend()}) is in use already")]
    try:
        right = _reduces(backend)
    except (RuntimeError, ValueError) as error:
        names = [
            name for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "NCCL_NET") if name in os.environ
        ]
        said = f" ({', '.join(f'{name}={os.environ[name]}' for name in names)})" if names else ""
        fix = f"check the driver, that this host's name resolves, and NCCL_/GLOO_ variables{said}"
        return [fail("communication", f"{backend} does not start: {_told(error)}", fix)]
    if not right:
        return [fail("communication", f"{backend} reduces 1 to another number", "reinstall torch")]
    nccl = torch.cuda.nccl.version() if cuda else ()  # type: ignore[no-untyped-call]
    version = ".".join(map(str, nccl))
    return [ok("communication", " ".join(filter(None, (backend, version, "reduces on one rank"))))]


def shared_memory(folder: str = "/dev/shm", gpus: int | None = None) -> list[Finding]:  # noqa: S108
    """Check the space that NCCL's ranks on one host talk through; the loader's workers need none of it."""
    import torch

    gpus = torch.cuda.device_count() if gpus is None else gpus
    try:
        total = shutil.disk_usage(folder).total
    except OSError:
        return [warn("shared memory", f"{folder} is missing", f"mount a tmpfs at {folder}")]
    text = f"{total / 2**20:.0f} MiB at {folder}"
    if gpus > 1 and total < gpus * 2**28:
        fix = "docker run --shm-size=4g, or an emptyDir volume of medium Memory (launch/cluster/k8s.yaml)"
        return [fail("shared memory", f"{text}: too little for NCCL between {gpus} GPUs", fix)]
    return [ok("shared memory", text)]


def open_files(limits: tuple[int, int] | None = None) -> list[Finding]:
    """Check how many files a rank may have open: pipes of the workers, sockets of the store and of NCCL."""
    soft, hard = limits or resource.getrlimit(resource.RLIMIT_NOFILE)
    text = f"limit {'none' if soft == resource.RLIM_INFINITY else soft}"
    if soft == resource.RLIM_INFINITY or soft >= 4096:
        return [ok("open files", text)]
    state = fail if soft < 1024 else warn
    return [
        state("open files", text, f"ulimit -n 65536 (the hard limit is {hard}); LimitNOFILE= in a service")
    ]


def _reduces(backend: str) -> bool:
    """Reduce a one in a process group of one rank; tell whether it stays a one."""
    import torch
    import torch.distributed as dist

    with tempfile.TemporaryDirectory() as folder:
        try:
            dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=0, world_size=1)
            value = torch.ones(1, device="cuda" if backend == "nccl" else "cpu")
            dist.all_reduce(value)
            return float(value.item()) == 1.0
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()


def _requirements() -> Sequence[Requirement]:
    try:
        found = importlib.metadata.requires("pal-ds") or []
    except importlib.metadata.PackageNotFoundError:  # run from a checkout: loading the builds says enough
        found = []
    wanted = [Requirement(text) for text in found]
    return [item for item in wanted if item.marker is None or item.marker.evaluate({"extra": ""})]


def _decode_generated() -> tuple[Tensor, float]:
    """Decode about what one sample needs, two regions and eight background clips; return it and clips/s."""
    import torch

    from pal_ds.data.decode import decode_frames
    from pal_ds.formats.shardset import SampleRecord

    video = _make_clip()
    record = SampleRecord(
        key="0" * 20,
        source="generated",
        start=0.0,
        end=10.0,
        duration=10.0,
        fps=25.0,
        frames=_CLIP_FRAMES,
        width=176,
        height=128,
        bytes=len(video),
        sha256="0" * 64,
        label=None,
    )
    indices = list(range(0, _CLIP_FRAMES, 2))
    frames, seconds = None, []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    try:
        for _ in range(4):
            # Processor time, so that a busy machine does not look like a slow decoder.
            started = time.process_time()
            frames = decode_frames(video, record, indices)
            seconds.append(time.process_time() - started)
    finally:
        torch.set_num_threads(threads)
    assert frames is not None
    return frames, 1.0 / max(1e-6, min(seconds))


def _make_clip() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        words = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", _CLIP, "-pix_fmt", "yuv420p", "-g", "16"]
        encoder = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "fastdecode"]
        if "libx264" not in _output(["ffmpeg", "-hide_banner", "-encoders"]):
            encoder = ["-c:v", "mpeg4"]
        subprocess.run([*words, *encoder, str(path)], check=True, capture_output=True, timeout=60)
        return path.read_bytes()


def _output(words: list[str]) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=20, check=False).stdout
