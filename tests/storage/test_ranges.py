"""Ranges through signed URLs: what a store may answer, and what is left to s3fs (pal_ds/storage/ranges.py)."""

from __future__ import annotations

import http.server
import logging
import os
import threading
import types
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from s3fs import S3FileSystem

from launch.demo.s3_server import S3Server
from pal_ds import storage
from pal_ds.storage import RetryPolicy, ranges
from pal_ds.storage.ranges import SignedReader, fetch_range

DATA = os.urandom(300_000)
FAST = RetryPolicy(budget_seconds=0.5, first_delay=0.01, max_delay=0.05)


class Store(http.server.ThreadingHTTPServer):
    """Answers ranges of ``DATA`` as scripted: a status, and how much longer than the body its length is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[tuple[int, int]] = []
        self.asked: list[tuple[str, str, int]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        store = self.server
        assert isinstance(store, Store)
        wanted = self.headers["Range"]
        store.asked.append((self.path, wanted, self.client_address[1]))
        status, extra = store.script.pop(0) if store.script else (206, 0)
        first, last = map(int, wanted.removeprefix("bytes=").split("-"))
        body = DATA[first : last + 1] if status == 206 else b"no"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + extra))
        self.end_headers()
        self.wfile.write(body[: len(body) + min(0, extra)])

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


class FileSystem:
    """What a reader needs of s3fs; counts what it is asked for."""

    protocol = ("s3", "s3a")
    _fs_token = "test"
    client_kwargs: Mapping[str, Any] = types.MappingProxyType({})
    req_kw: Mapping[str, str] = types.MappingProxyType({})
    session = types.SimpleNamespace(get_config_variable=lambda _name: None)

    def __init__(self, url: str) -> None:
        self.url, self.signed, self.by_hand = url, 0, 0

    def sign(self, path: str, expiration: int) -> str:
        self.signed += 1
        return f"{self.url}/{path}?X-Amz-Signature=secret{self.signed}"

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        self.by_hand += 1
        return DATA[start:end]


def test_one_url_and_one_connection_serve_many_ranges(store: Store) -> None:
    fs = FileSystem(store.url)
    reader = SignedReader(fs)
    for start in range(0, 200_000, 50_000):
        assert reader.read("bucket/x", start, start + 100_000) == DATA[start : start + 100_000]
    assert (fs.signed, fs.by_hand) == (1, 0)
    assert len({port for _, _, port in store.asked}) == 1
    assert store.asked[1][1] == "bytes=50000-149999"


def test_urls_are_signed_again_before_they_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fs = FileSystem(store.url)
    reader = SignedReader(fs)
    monkeypatch.setattr(ranges, "USED_SECONDS", -1.0)
    monkeypatch.setattr(ranges, "KEPT_URLS", 2)
    for name in "abcda":
        assert reader.read(name, 0, 10) == DATA[:10]
        assert len(reader._urls) <= 2
    assert fs.signed == 5
    assert ranges.SIGNED_SECONDS >= 2 * 1200


@pytest.mark.parametrize("status", [200, 301, 400, 403, 404, 416])
def test_what_is_no_range_is_left_to_s3fs_and_the_url_forgotten(store: Store, status: int) -> None:
    fs = FileSystem(store.url)
    reader = SignedReader(fs)
    store.script = [(status, 0)]
    assert reader.read("x", 5, 20) == DATA[5:20]
    assert (fs.signed, fs.by_hand) == (1, 1)
    assert reader.read("x", 5, 20) == DATA[5:20]
    assert (fs.signed, fs.by_hand) == (2, 1)


def test_signed_urls_are_given_up_where_only_they_are_refused(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    fs = FileSystem(store.url)
    reader = SignedReader(fs)
    store.script = 100 * [(403, 0)]
    with caplog.at_level(logging.WARNING):
        for _ in range(6):
            assert reader.read("bucket/x", 0, 10) == DATA[:10]
    assert len(store.asked) == ranges.MOST_REFUSALS
    assert fs.by_hand == 6
    (told,) = [record.getMessage() for record in caplog.records]
    assert "signed URLs are refused" in told
    assert "secret" not in told


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_store_that_is_busy_is_an_error_to_try_again(store: Store, status: int) -> None:
    fs = FileSystem(store.url)
    store.script = [(status, 0)]
    with pytest.raises(OSError, match=str(status)):
        SignedReader(fs).read("x", 0, 10)
    assert fs.by_hand == 0


def test_a_wrong_length_never_spoils_the_next_range(store: Store) -> None:
    reader = SignedReader(FileSystem(store.url))
    store.script = [(206, 1000), (206, -40_000)]
    assert reader.read("x", 0, 100_000) == DATA[:100_000]
    assert reader.read("x", 0, 100_000) == DATA[:60_000]
    assert reader.read("x", 7, 100_000) == DATA[7:100_000]
    assert store.asked[0][2] != store.asked[1][2], "bytes may still be coming"


def test_a_server_that_is_away_is_told_without_the_signature(store: Store) -> None:
    reader = SignedReader(FileSystem("http://127.0.0.1:9"))
    with pytest.raises(OSError, match=r"at http://127\.0\.0\.1:9/x$") as caught:
        reader.read("x", 0, 10)
    shown = "".join(map(str, (caught.value, caught.value.__cause__)))
    assert "secret" not in shown


def test_another_file_system_object_means_other_urls_and_connections(store: Store) -> None:
    first, second = FileSystem(store.url), FileSystem(store.url)
    for fs in (first, first, second):
        assert fetch_range(fs, "x", 0, 10) == DATA[:10]
    assert (first.signed, second.signed) == (1, 1)


def test_a_real_store_serves_signed_ranges(s3_env: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url = storage.join(s3_env.bucket("signed"), "folder", "a name+ü%.bin")
    storage.write_bytes(url, DATA)

    async def forbidden(*_: Any, **__: Any) -> bytes:
        raise AssertionError("read by s3fs")

    monkeypatch.setattr(S3FileSystem, "_cat_file", forbidden)
    for start, end in ((0, 10), (299_990, 300_000), (100, 250_000)):
        assert storage.read_range(url, start, end, retry=FAST) == DATA[start:end]


@pytest.mark.parametrize("name", ["none", "refused"])
def test_a_real_store_is_asked_again_by_s3fs_for_the_reason(
    s3_env: S3Server, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    url = storage.join(s3_env.bucket("signed"), name)
    expected: type[storage.StorageError] = storage.StorageNotFoundError
    if name == "refused":
        storage.write_bytes(url, DATA)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        S3FileSystem.clear_instance_cache()
        expected = storage.StorageAccessError
    with pytest.raises(expected, match=name) as caught:
        storage.read_range(url, 0, 10, retry=FAST)
    assert "Signature=" not in str(caught.value)
