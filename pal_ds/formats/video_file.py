"""What counts as a video file: by its ending where folders are listed, by its first bytes before it is opened.

FFmpeg also opens playlists: text that names other files or addresses, whatever the file is called. It is never asked
to: only containers that hold their video themselves are let through, told by the signatures of their first bytes.
"""

from __future__ import annotations

#: Endings, without the dot, of files taken as videos in a folder or bucket.
VIDEO_EXTENSIONS = frozenset(
    {"mp4", "m4v", "mov", "webm", "mkv", "avi", "mpg", "mpeg", "m2v", "ts", "mts", "m2ts"}
    | {"flv", "wmv", "asf", "3gp", "3g2", "ogv", "ogg", "gif", "vob", "mxf", "rm"}
)
#: Codecs of single pictures: beside another video stream they are covers or thumbnails.
STILL_CODECS = frozenset({"mjpeg", "png", "bmp", "tiff", "webp"})
#: So many first bytes tell a container.
HEAD_BYTES = 4096

_MAGIC = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"\x00\x00\x01",  # MPEG program and elementary streams, H.264, HEVC
    b"\x00\x00\x00\x01",
    b"FLV\x01",
    b"OggS",
    b"GIF87a",
    b"GIF89a",
    b"0&\xb2u\x8ef\xcf\x11",  # ASF, WMV
    b".RMF",
    b"DKIF",  # IVF
    b"\x06\x0e+4\x02\x05\x01\x01",  # MXF
    b"nut/multimedia container\x00",
    b"YUV4MPEG2 ",
    b"\xb7\xd8\x00 7I\xdaHf",  # WTV
    b"DHAV",
    b"NSVf",
    b"NSVs",
    b"BIK",
    b"KB2",
    b"SMK2",
    b"SMK4",
    b"\x1f\x07\x00",  # DV
)
_BOXES = frozenset(b"ftyp styp moov moof mdat free skip wide pnot udta uuid junk sidx".split())
#: Bytes from packet to packet of an MPEG transport stream: plain, with a time stamp before it, with parity behind it.
_PACKETS = (188, 192, 204)


def is_video_name(name: str) -> bool:
    """Tell by its ending whether a file is taken as a video."""
    stem, dot, extension = name.rpartition(".")
    return bool(dot and stem) and extension.lower() in VIDEO_EXTENSIONS


def is_container(head: bytes) -> bool:
    """Tell by the first ``HEAD_BYTES`` of a file whether it is a container that holds its video itself.

    Args:
        head: first bytes; fewer where the file is shorter.
    """
    if head.startswith(_MAGIC) or head[4:8] in _BOXES:
        return True
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX"):
        return True
    return any(_in_step(head, size) for size in _PACKETS)


def has_index(head: bytes) -> bool:
    """Tell whether a container says where its frames lie; MPEG transport and program streams don't.

    Args:
        head: first ``HEAD_BYTES`` of a container.
    """
    return not head.startswith((b"\x00\x00\x01", b"\x00\x00\x00\x01")) and (
        head[4:8] in _BOXES or not any(_in_step(head, size) for size in _PACKETS)
    )


def _in_step(head: bytes, size: int) -> bool:
    """Whether three packets of a transport stream follow each other somewhere near the start."""
    first = head[: 4 * size]
    return any(
        first[at] == 0x47
        and head[at + size : at + size + 1] == b"G"
        and head[at + 2 * size : at + 2 * size + 1] == b"G"
        for at in range(min(len(first), 2 * size))
    )
