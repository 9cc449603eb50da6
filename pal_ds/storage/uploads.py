"""Uploads of files: in parts where they are large, and the removal of uploads that were never finished.

A store keeps, and charges for, the parts of an upload whose process was killed until someone aborts it; no listing
of objects shows them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pal_ds.storage.backend import is_s3
from pal_ds.storage.errors import StorageError, StorageNotFoundError, check_writable
from pal_ds.storage.local import publish_local
from pal_ds.storage.retry import AT_START, DEFAULT_RETRY, ReadCounters, RetryPolicy, retrying
from pal_ds.storage.urls import is_local, local_path

#: Files of two parts and more are sent to S3 in parts of this size, each retried on its own (bytes).
PART_BYTES = 16 << 20
#: S3's limit on the parts of one object.
_MAX_PARTS = 10_000
#: Parts under way at a time; as many are in memory.
_STREAMS = 4


def upload_file(path: Path, url: str, *, retry: RetryPolicy = DEFAULT_RETRY) -> None:
    """Copy a local file to ``url`` atomically: readers see the old object or the whole new one.

    Raises:
        StorageAccessError: the store refuses.
        StorageError: still failing after the budget.
    """
    check_writable(url)
    if is_local(url):
        publish_local(path, local_path(url))
        return
    size = path.stat().st_size
    if is_s3(url) and size >= 2 * PART_BYTES:
        _upload_in_parts(path, url, size, retry)
        return

    def attempt(fs: Any, target: str) -> None:
        fs.put_file(str(path), target)
        _check_size(fs, target, size)

    retrying(url, attempt, retry, ReadCounters())


def abort_uploads(
    url: str, chosen: Callable[[str], bool] = lambda _: True, *, retry: RetryPolicy = DEFAULT_RETRY
) -> list[str]:
    """Abort the unfinished uploads below a folder; stores other than S3 drop theirs by themselves.

    Args:
        url: the folder; nobody else may be uploading what is chosen.
        chosen: told an upload's path relative to the folder, whether to abort it.
        retry: as for reads.

    Returns:
        The relative paths of what was aborted, sorted.

    Raises:
        StorageAccessError: the store refuses.
        StorageError: still failing after the budget.
    """
    if not is_s3(url):
        return []
    found = retrying(url, lambda fs, path: list(_unfinished(fs, path)), retry, ReadCounters())
    wanted = sorted((relative, upload) for relative, upload in found if chosen(relative))
    for relative, upload in wanted:
        _abort(f"{url.rstrip('/')}/{relative}", upload, retry)
    return [relative for relative, _ in wanted]


def _unfinished(fs: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the path relative to ``path`` and the id of every unfinished upload below it."""
    bucket, key, _ = fs.split_path(path)
    prefix = f"{key.rstrip('/')}/" if key else ""
    place: dict[str, str] = {}
    while True:
        answer = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **place)
        for upload in answer.get("Uploads") or ():
            if upload["Key"].startswith(prefix):
                yield upload["Key"][len(prefix) :], upload["UploadId"]
        place = {
            name: answer[f"Next{name}"]
            for name in ("KeyMarker", "UploadIdMarker")
            if answer.get(f"Next{name}")
        }
        if not answer.get("IsTruncated") or not place:
            return


def _abort(url: str, upload: str, retry: RetryPolicy) -> None:
    def attempt(fs: Any, path: str) -> None:
        bucket, key, _ = fs.split_path(path)
        with contextlib.suppress(FileNotFoundError):
            fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload)

    retrying(url, attempt, retry, ReadCounters())


def _upload_in_parts(path: Path, url: str, size: int, retry: RetryPolicy) -> None:
    """Send a file in parts, so that a failure costs one of them; nothing is left behind where it fails for good."""
    part_bytes = max(PART_BYTES, -(-size // _MAX_PARTS))
    completing = ReadCounters()

    def call(method: str, counters: ReadCounters | None = None, **arguments: Any) -> Any:
        def attempt(fs: Any, target: str) -> Any:
            bucket, key, _ = fs.split_path(target)
            return fs.call_s3(method, Bucket=bucket, Key=key, **arguments)

        return retrying(url, attempt, retry, counters or ReadCounters())

    upload = call("create_multipart_upload")["UploadId"]

    def send(number: int) -> dict[str, object]:
        with path.open("rb") as file:
            file.seek((number - 1) * part_bytes)
            data = file.read(part_bytes)
        answer = call("upload_part", UploadId=upload, PartNumber=number, Body=data)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    try:
        with ThreadPoolExecutor(_STREAMS, "upload") as pool:
            parts = list(pool.map(send, range(1, -(-size // part_bytes) + 1)))
        try:
            call("complete_multipart_upload", completing, UploadId=upload, MultipartUpload={"Parts": parts})
        except StorageNotFoundError:
            # Where only the answer was lost, the upload is gone at the second try and the object is there.
            if not completing.retries:
                raise
        retrying(url, lambda fs, target: _check_size(fs, target, size), retry, ReadCounters())
    except BaseException:
        with contextlib.suppress(StorageError):
            _abort(url, upload, AT_START)
        raise


def _check_size(fs: Any, target: str, expected: int) -> None:
    found = int(fs.info(target)["size"])
    if found != expected:
        raise OSError(f"uploaded {found} of {expected} bytes")
