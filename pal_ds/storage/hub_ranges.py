"""One range of a file on the Hugging Face Hub, by one request: its file system reads ahead and looks around first."""

from __future__ import annotations

from typing import Any

from pal_ds.storage.backend import READ_SECONDS


def hub_range(fs: Any, path: str, start: int, end: int) -> bytes:
    """Ask once for bytes ``[start, end)`` of a file and return what came: fewer where the file is shorter.

    Args:
        fs: a ``HfFileSystem``.
        path: of the file, as the file system names it.
        start: first byte.
        end: byte after the last.

    Raises:
        OSError: the hub or the way to it failed; also whatever huggingface_hub raises.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import get_session, hf_raise_for_status

    place = fs.resolve_path(path)
    if not hasattr(place, "repo_id"):
        # A bucket: no revisions, and another address.
        return bytes(fs.cat_file(path, start=start, end=end, cache_type="none"))
    url = hf_hub_url(
        place.repo_id,
        place.path_in_repo,
        repo_type=place.repo_type,
        revision=place.revision,
        endpoint=fs.endpoint,
    )
    headers = {
        **fs._api._build_hf_headers(),
        "Range": f"bytes={start}-{end - 1}",
        "Accept-Encoding": "identity",
    }
    answer = get_session().get(url, headers=headers, follow_redirects=True, timeout=READ_SECONDS)
    hf_raise_for_status(answer)
    if answer.status_code != 206:
        raise OSError(f"{answer.status_code} for a range")
    return bytes(answer.content)
