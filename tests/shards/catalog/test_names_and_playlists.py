"""Names as people give them, files that name other files, and tables as spreadsheets write them."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from pal_ds.data.decode import decode_frames
from pal_ds.data.errors import ClipDecodeError
from pal_ds.formats.shardset import SampleRecord
from pal_ds.formats.video_file import is_container
from pal_ds.transfer.extraction.frame_stream import FrameStream
from pal_ds.transfer.extraction.video_opening import FrameError
from pal_ds.transfer.extraction.video_source import list_videos, open_video
from shards.catalog.csv_tables import open_table
from shards.cli import main as pal_shard
from tests.support.clips import make_video
from tests.support.shard_files import records_of, rejects_of

NAMES = (
    "with space.mp4",
    "per%20cent %d %03d.mp4",
    "plus+plus.mp4",
    "hash#tag.mp4",
    "what?.mp4",
    "star*.mp4",
    "br[1-9]{a,b}.mp4",
    "-leading-dash.mp4",
    "concat:a|b.mp4",
    "http:x.mp4",
    "double::colon.mp4",
    unicodedata.normalize("NFC", "é-composed.mp4"),
    unicodedata.normalize("NFD", "é-composed.mp4"),
    "视频-🎬.mp4",
)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "v.mp4", seconds=0.6, size="64x48")


@pytest.mark.slow
def test_every_name_is_built_and_extracted(video: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in [1] #%"
    folder.mkdir()
    for name in NAMES:
        os.link(video, folder / name)
    assert pal_shard(["build", str(folder), str(tmp_path / "out"), "--copy", "--quiet"]) == 0
    assert set(records_of(tmp_path / "out")) == set(NAMES)
    found = list_videos(str(folder))
    assert {ref.source for ref in found} == set(NAMES)
    assert [FrameStream(open_video(ref)).frames for ref in found] == [15] * len(NAMES)


def test_names_relative_to_the_working_folder_are_no_protocols(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("-i.mp4", "concat:a.mp4", "file:x.mp4"):
        os.link(video, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert [FrameStream(open_video(ref)).frames for ref in list_videos(".")] == [15] * 3


class _Listener:
    """Counts who connects."""

    def __init__(self) -> None:
        self.calls = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                self._socket.accept()[0].close()
            except OSError:
                return
            self.calls += 1

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[_Listener]:
    found = _Listener()
    yield found
    found.close()


def playlists(video: Path, port: int) -> dict[str, bytes]:
    """Text that makes FFmpeg open other files or addresses, by what it is."""
    address, path = f"http://127.0.0.1:{port}/x.ts", str(video)
    segment = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    mpd = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'profiles="urn:mpeg:dash:profile:isoff-live:2011"><Period><AdaptationSet mimeType="video/mp4">'
        f'<Representation id="0" bandwidth="1"><BaseURL>{address}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    )
    texts = {
        "HLS, a file": segment.format(path),
        "HLS, an address": segment.format(address),
        "HLS, a master list": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{address}\n",
        "concat, a file": f"ffconcat version 1.0\nfile '{path}'\n",
        "concat, beside it": "ffconcat version 1.0\nfile other.mp4\n",
        "concat, an address": f"ffconcat version 1.0\nfile '{address}'\n",
        "DASH": mpd,
        "DASH behind a byte": "\x01" + mpd,
        "SDP": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\n",
        "a reference": f"RTSPtext\r\nrtsp://127.0.0.1:{port}/x\r\n",
        "with a mark": "\ufeff" + segment.format(address),
    }
    return {kind: text.encode() for kind, text in texts.items()}


@pytest.mark.slow
def test_playlists_are_never_followed(
    video: Path, listener: _Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = playlists(video, listener.port)
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(video, tmp_path / "other.mp4")
    monkeypatch.chdir(tmp_path)
    for number, text in enumerate(texts.values()):
        (folder / f"{number}.{('mp4', 'ts', 'mkv')[number % 3]}").write_bytes(text)
    for more in ([], ["--copy"]):
        out = tmp_path / f"out{len(more)}"
        assert pal_shard(["build", str(folder), str(out), "--quiet", *more]) == 3
        assert len(rejects_of(out)) == len(texts)
        assert records_of(out) == {}
    for ref in list_videos(str(folder)):
        data = Path(ref.url).read_bytes()
        for source in (open_video(ref), data, io.BytesIO(data)):
            with pytest.raises(FrameError, match="playlists and text are never opened"):
                FrameStream(source)
    record = SampleRecord(
        key="k",
        source="s",
        start=0,
        end=1,
        duration=1,
        fps=25,
        frames=15,
        width=64,
        height=48,
        bytes=1,
        sha256="",
    )
    for text in texts.values():
        with pytest.raises(ClipDecodeError, match="no video container"):
            decode_frames(text, record, [0])
    assert listener.calls == 0


@pytest.mark.slow
def test_every_container_made_here_is_let_through(tmp_path: Path) -> None:
    codecs = dict.fromkeys(("mp4", "mov", "mkv", "ts", "m2ts", "3gp"), "libx264")
    codecs |= dict.fromkeys(("mpg", "vob", "mxf"), "mpeg2video") | dict.fromkeys(("wmv", "asf"), "wmv2")
    codecs |= {"avi": "mpeg4", "flv": "flv1", "webm": "libvpx", "ogv": "libtheora", "gif": "gif"}
    for ending, codec in codecs.items():
        path = make_video(tmp_path / f"v.{ending}", seconds=0.4, size="96x72", extra=("-c:v", codec))
        assert is_container(path.read_bytes()[:4096]), ending
    assert not is_container(b"")
    assert not is_container(b"plain text\n" * 400)


TABLES = {
    "plain": "path,start,end,label\nv.mp4,0,0.4,a\n",
    "byte order mark": "\ufeffpath,start,end,label\nv.mp4,0,0.4,a\n",
    "carriage returns": "path,start,end,label\r\nv.mp4,0,0.4,a\r\n",
    "quotes": '"path","start","end","label"\n"v.mp4","0","0.4","a, ""b"""\n',
    "another order": "label,end,path,start\na,0.4,v.mp4,0\n",
    "spaces in the header": "path, start, end , label\nv.mp4,0,0.4,a\n",
    "a blank line": "path,start,end,label\n\nv.mp4,0,0.4,a\n\n",
    "times as floats": "path,start,end,label\nv.mp4,0.0,4e-1,a\n",
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_as_spreadsheets_write_them(kind: str, tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_bytes(TABLES[kind].encode())
    (row,) = open_table(str(tmp_path / "clips.csv")).rows()
    assert (row.identity, row.video, row.start, row.end) == ("v.mp4#t=0,0.4", "v.mp4", 0.0, 0.4)
    assert row.label == ('a, "b"' if kind == "quotes" else "a")
    assert row.error is None


def test_spans_that_differ_in_a_millisecond_are_different_clips(video: Path, tmp_path: Path) -> None:
    rows = ["v.mp4,0.1234567,0.5", "v.mp4,0.1234568,0.5", "v.mp4,0.1234567,0.5", "v.mp4,0.5,0.2", "v.mp4,x,1"]
    (tmp_path / "clips.csv").write_text("path,start,end\n" + "\n".join(rows) + "\n")
    words = ["build", str(tmp_path / "clips.csv"), str(tmp_path / "out"), "--video-root", str(video.parent)]
    assert pal_shard([*words, "--quiet"]) == 3
    assert set(records_of(tmp_path / "out")) == {"v.mp4#t=0.1234567,0.5", "v.mp4#t=0.1234568,0.5"}
    assert [(reject["source"], reject["stage"]) for reject in rejects_of(tmp_path / "out")] == [
        ("clips.csv:5", "catalog"),
        ("clips.csv:6", "catalog"),
        ("v.mp4#t=0.1234567,0.5", "duplicate"),
    ]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["rejected"] == 3
