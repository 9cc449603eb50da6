"""Object stores with names as people give them, and public buckets: nothing but what is meant is read or removed."""

from __future__ import annotations

import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.demo.s3_server import S3Server
from pal_ds import storage
from tests.support.shard_files import records_of

pytestmark = pytest.mark.slow
NAMES = ("a plus+b.mp4", "with space.mp4", "br[1]ackets.mp4", "per%20cent.mp4", "späße.mp4")


class PublicServer(S3Server):
    """The same with one bucket that everyone may read."""

    def _identities(self) -> Any:
        found = super()._identities()
        found["identities"].append({"name": "anonymous", "actions": ["Read:public", "List:public"]})
        return found

    def _wait_until_ready(self) -> bool:
        # Everyone may ask it for its buckets, so its answer is no refusal.
        for _ in range(300):
            try:
                urllib.request.urlopen(self.url, timeout=2).close()
                return True
            except urllib.error.HTTPError as error:
                if error.code == 403:
                    return True
            except OSError:
                pass
            time.sleep(0.1)
        return False


@pytest.fixture(scope="module")
def server(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    import s3fs

    with PublicServer(tmp_path_factory.mktemp("public-server")) as running:
        client = s3fs.S3FileSystem(
            key=running.env["AWS_ACCESS_KEY_ID"],
            secret=running.env["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=running.url,
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        running.bucket("public")
        running.bucket("private")
        video = next(corpus.rglob("*.mp4")).read_bytes()
        for name in NAMES:
            client.pipe_file(f"public/videos/{name}", video)
        running.client = client  # type: ignore[attr-defined]
        yield running


def test_keys_with_odd_characters_are_read(server: Any, tmp_path: Path, pal_shard: Any) -> None:
    done = pal_shard("build", "s3://public/videos", tmp_path / "out", "--copy", "--quiet", env=server.env)
    assert done.returncode == 0, done.stderr
    assert set(records_of(tmp_path / "out")) == set(NAMES)


def test_a_destination_with_a_pattern_in_its_name_removes_nothing_else(
    server: Any, corpus: Path, tmp_path: Path, pal_shard: Any
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in list(corpus.rglob("*.mp4"))[:2]:
        shutil.copy(path, few)
    client, dest = server.client, "s3://private/set[12]"
    # What the name would match, were it taken for a pattern.
    others = [
        f"private/set{end}/{part}" for end in "12" for part in ("manifest.json", "_unfinished/plan.json")
    ]
    for path in others:
        client.pipe_file(path, b"someone else's")
    words = ("build", few, dest, "--copy", "--quiet")
    for more in ((), ("--overwrite",)):
        done = pal_shard(*words, *more, env=server.env)
        assert done.returncode == 0, done.stderr
    left = set(client.find("private"))
    assert set(others) <= left
    assert not [path for path in left if path.startswith("private/set[12]/_unfinished")]


@pytest.mark.parametrize("name", ["x[12]", "x*", "x?"])
@pytest.mark.parametrize("recursive", [False, True])
def test_removal_takes_names_literally(
    name: str, recursive: bool, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    for variable, value in server.env.items():
        monkeypatch.setenv(variable, value)
    s3fs.S3FileSystem.clear_instance_cache()
    tail = "/part" if recursive else ""
    for key in (name, "x1", "x2"):
        server.client.pipe_file(f"private/literal/{key}{tail}", b"x")
    storage.remove(f"s3://private/literal/{name}", recursive=recursive)
    assert server.client.find("private/literal") == [f"private/literal/x{end}{tail}" for end in "12"]
    server.client.rm("private/literal", recursive=True)


def test_a_public_bucket_is_read_without_keys(
    server: Any, tmp_path: Path, pal_shard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    env = {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_CONFIG_FILE": "/nonexistent",
    }
    done = pal_shard("build", "s3://public/videos", tmp_path / "out", "--copy", "--quiet", env=env)
    assert done.returncode == 0, done.stderr
    assert set(records_of(tmp_path / "out")) == set(NAMES)
    refused = pal_shard("build", "s3://private/videos", tmp_path / "other", "--quiet", env=env)
    assert refused.returncode == 2
    assert "asked without keys, as none were found" in refused.stderr.splitlines()[-1]


def test_local_names_are_taken_literally_too(tmp_path: Path) -> None:
    for name in ("set1", "set[1]"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("x")
    storage.remove(str(tmp_path / "set[1]"), recursive=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set1"]
