"""pal_ds.storage against local disk and a real S3 server."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import s3fs

from pal_ds import storage
from pal_ds.storage import RetryPolicy

FAST = RetryPolicy(budget_seconds=0.5, first_delay=0.01, max_delay=0.05)


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path)
    server = request.getfixturevalue("s3_env")
    return storage.join(server.bucket("storage-test"), tmp_path.name)


def test_round_trip_range_list_and_remove(place: str) -> None:
    data = os.urandom(100_000)
    url = storage.join(place, "folder", "x.bin")
    assert not storage.exists(url)
    storage.write_bytes(url, data)
    assert storage.read_bytes(url) == data
    counters = storage.ReadCounters()
    assert storage.read_range(url, 10, 70_010, counters=counters) == data[10:70_010]
    assert counters.bytes == 70_000
    assert counters.requests == 1
    assert storage.size(url) == len(data)
    storage.write_bytes(storage.join(place, "folder", "a", "y"), b"1")
    assert storage.list_names(storage.join(place, "folder")) == ["a", "x.bin"]
    assert storage.list_names(storage.join(place, "nothing")) == []
    found = [(info.relative, info.size) for info in storage.iter_files(storage.join(place, "folder"))]
    assert sorted(found) == [("a/y", 1), ("x.bin", len(data))]
    storage.remove(url)
    storage.remove(url)
    assert not storage.exists(url)
    storage.remove(storage.join(place, "folder"), recursive=True)
    # Some stores go on listing an emptied prefix for a while; objects there must be none.
    assert list(storage.iter_files(place)) == []


def test_a_range_of_several_pieces_is_whole(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.objects, "PIECE_BYTES", 1000)
    data = os.urandom(5_500)
    url = storage.join(place, "pieces")
    storage.write_bytes(url, data)
    assert storage.read_range(url, 500, 5_500) == data[500:]


def test_upload_file(place: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(6 << 20))
    url = storage.join(place, "up", "loaded")
    storage.upload_file(source, url)
    assert storage.read_bytes(url) == source.read_bytes()


def test_a_bucket_is_there_or_not_and_a_store_out_of_reach_is_neither(s3_env, monkeypatch) -> None:
    assert storage.bucket_exists(s3_env.bucket("storage-there"), retry=FAST)
    assert not storage.bucket_exists("s3://storage-not-there", retry=FAST)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(storage.StorageError, match="storage-there"):
        storage.bucket_exists("s3://storage-there", retry=FAST)
    s3fs.S3FileSystem.clear_instance_cache()


def unfinished(bucket: str) -> list[str]:
    """Keys of a bucket's unfinished uploads, asked of the store itself."""
    import s3fs

    client = s3fs.S3FileSystem(skip_instance_cache=True)
    answer = client.call_s3("list_multipart_uploads", Bucket=bucket.removeprefix("s3://"))
    return sorted(upload["Key"] for upload in answer.get("Uploads") or ())


def begin_upload(bucket: str, key: str) -> None:
    """Leave an upload of one part behind, as a killed process does."""
    import s3fs

    client = s3fs.S3FileSystem(skip_instance_cache=True)
    place = {"Bucket": bucket.removeprefix("s3://"), "Key": key}
    upload = client.call_s3("create_multipart_upload", **place)["UploadId"]
    client.call_s3("upload_part", **place, UploadId=upload, PartNumber=1, Body=b"x" * (5 << 20))


def test_a_large_file_goes_up_in_parts_and_leaves_none(s3_env, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(storage.uploads, "PART_BYTES", 5 << 20)
    bucket = s3_env.bucket("storage-parts")
    source = tmp_path / "source"
    source.write_bytes(os.urandom((17 << 20) + 3))
    storage.upload_file(source, f"{bucket}/large")
    assert storage.read_bytes(f"{bucket}/large") == source.read_bytes()
    assert unfinished(bucket) == []


def test_a_part_that_never_arrives_fails_the_upload_and_keeps_the_old_object(
    s3_env, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(storage.uploads, "PART_BYTES", 5 << 20)
    bucket = s3_env.bucket("storage-parts-fail")
    storage.write_bytes(f"{bucket}/x", b"old")
    source = tmp_path / "source"
    source.write_bytes(bytes(11 << 20))
    real = storage.uploads.retrying

    def failing(url, attempt, retry, counters):
        def lost(fs, path):
            raise ConnectionResetError

        return real(url, lost if retry is FAST and unfinished(bucket) else attempt, retry, counters)

    monkeypatch.setattr(storage.uploads, "retrying", failing)
    with pytest.raises(storage.StorageError, match="ConnectionResetError"):
        storage.upload_file(source, f"{bucket}/x", retry=FAST)
    assert storage.read_bytes(f"{bucket}/x") == b"old"
    assert unfinished(bucket) == []


def test_unfinished_uploads_below_a_folder_are_aborted_and_others_kept(s3_env) -> None:
    bucket = s3_env.bucket("storage-orphans")
    keys = [f"set/train-{number:06d}.tar" for number in range(4)] + ["set/notes.txt", "settle/x", "top"]
    for key in keys:
        begin_upload(bucket, key)
    begin_upload(bucket, keys[0])
    aborted = storage.abort_uploads(f"{bucket}/set/", lambda name: name.endswith(".tar"))
    assert aborted == sorted(["train-000000.tar", *(key.removeprefix("set/") for key in keys[:4])])
    assert unfinished(bucket) == ["set/notes.txt", "settle/x", "top"]
    assert storage.abort_uploads(bucket) == ["set/notes.txt", "settle/x", "top"]
    assert storage.abort_uploads(bucket) == []


def test_a_local_folder_has_no_unfinished_uploads(tmp_path: Path) -> None:
    assert storage.abort_uploads(str(tmp_path)) == []


def test_missing_objects_and_short_ranges(place: str) -> None:
    with pytest.raises(storage.StorageNotFoundError, match="none"):
        storage.read_bytes(storage.join(place, "none"), retry=FAST)
    url = storage.join(place, "short")
    storage.write_bytes(url, b"12345")
    counters = storage.ReadCounters()
    with pytest.raises(storage.StorageError, match="tries"):
        storage.read_range(url, 0, 10, retry=FAST, counters=counters)
    assert counters.retries > 0


def test_refusals_are_told_apart(s3_server, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    bucket = s3_server.bucket("storage-refused")
    cases = {
        "reader writes": s3_server.read_only_env,
        "wrong secret": {**s3_server.env, "AWS_SECRET_ACCESS_KEY": "wrong"},
        "unknown key": {**s3_server.env, "AWS_ACCESS_KEY_ID": "NOBODY"},
    }
    for name, environment in cases.items():
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(storage.StorageAccessError) as caught:
            storage.write_bytes(f"{bucket}/x", b"1", retry=FAST)
        assert environment["AWS_SECRET_ACCESS_KEY"] not in str(caught.value), name


def test_missing_bucket(s3_env) -> None:
    with pytest.raises(storage.StorageNotFoundError):
        storage.read_bytes("s3://no-such-bucket-here/x", retry=FAST)


def test_a_server_that_is_away_uses_up_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(storage.StorageError) as caught:
        storage.read_bytes("s3://bucket/x", retry=FAST)
    assert not isinstance(caught.value, storage.StorageAccessError | storage.StorageNotFoundError)


def test_local_writes_are_whole_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "file"
    storage.write_bytes(str(target), b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        storage.write_bytes(str(target), b"new")
    assert target.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~mask


def test_symbolic_link_loops_end(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"x")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert [info.relative for info in storage.iter_files(str(tmp_path))] == ["a/file"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://key:secret@bucket/path?token=1#x", "s3://bucket/path"),
        ("simplecache::s3://key:secret@bucket/path?token=1", "simplecache::s3://bucket/path"),
        ("zip://a.mp4::s3://key:secret@bucket/x.zip", "zip://a.mp4::s3://bucket/x.zip"),
        ("/plain/path", "/plain/path"),
        ("file:///a/b", "file:///a/b"),
    ],
)
def test_redact(url: str, shown: str) -> None:
    assert storage.redact(url) == shown


def test_one_place_has_one_resolved_spelling(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    spellings = [tmp_path / "real", tmp_path / "link", f"{tmp_path}//x/../real/", f"file://{tmp_path}/link"]
    assert {storage.resolved(str(each)) for each in spellings} == {str(tmp_path / "real")}
    spellings = ["s3://b/a/c", "s3a://b/a/c/", "s3://b//a/./c"]
    assert {storage.resolved(each) for each in spellings} == {"s3://b/a/c"}
    assert storage.resolved("s3://b/a") != storage.resolved("gs://b/a")


def test_errors_survive_a_process_boundary() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(storage.StorageNotFoundError("s3://b/x", "gone")))
    assert isinstance(error, storage.StorageNotFoundError)
    assert str(error) == "s3://b/x: gone"
