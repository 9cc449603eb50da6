"""Places beside S3: each against a server on loopback that speaks its store's protocol."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.demo.s3_server import S3Server
from tests.support.clips import make_folder
from tests.support.header_keeper import HeaderKeeper
from tests.support.hub_server import HubServer
from tests.support.shard_files import files_of

#: Azurite's published account: no secret.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
SMALL = ("--shard-bytes", "30KB", "--copy")
#: Exercises a store as the project does; prints nothing where all is right.
_EXERCISE = """
import sys
from pal_ds import storage
url = sys.argv[1]
data = bytes(range(256)) * 4000
storage.write_bytes(f"{url}/a/b.bin", data)
assert storage.read_range(f"{url}/a/b.bin", 1000, 900_000) == data[1000:900_000]
assert storage.size(f"{url}/a/b.bin") == len(data)
assert storage.list_names(f"{url}/a") == ["b.bin"] and storage.list_names(f"{url}/none") == []
storage.write_bytes(f"{url}/a/c.bin", b"c")
assert storage.list_names(f"{url}/a") == ["b.bin", "c.bin"]
assert [info.relative for info in storage.iter_files(url)] == ["a/b.bin", "a/c.bin"]
for read in (storage.read_bytes, storage.size, lambda url: storage.read_range(url, 0, 9)):
    try:
        read(f"{url}/a/none")
    except storage.StorageNotFoundError:
        continue
    raise AssertionError(read)
storage.remove(f"{url}/a", recursive=True)
assert not storage.exists(f"{url}/a/b.bin")
"""


def run(code_or_module: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *code_or_module],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    pytest.importorskip("adlfs")
    binary = shutil.which("azurite-blob")
    if binary is None:
        pytest.skip("npm install -g azurite to test az://")
    port = free_port()
    command = [binary, "--silent", "--skipApiVersionCheck", "--inMemoryPersistence", "--blobPort", str(port)]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        end = f"BlobEndpoint=http://127.0.0.1:{port}/{_ACCOUNT};"
        connection = f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};{end}"
        environment = {"AZURE_STORAGE_CONNECTION_STRING": connection}
        made = run(["-c", "import adlfs; adlfs.AzureBlobFileSystem().mkdir('pal')"], environment)
        assert made.returncode == 0, made.stderr
        yield "az://pal/set", environment
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def google() -> Iterator[tuple[str, dict[str, str]]]:
    pytest.importorskip("gcsfs")
    if importlib.util.find_spec("gcp_storage_emulator") is None:
        pytest.skip("pip install gcp-storage-emulator to test gs://")
    from gcp_storage_emulator.server import create_server

    port = free_port()
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="pal")
    server.start()
    try:
        # The emulator knows no gRPC, over which gcsfs would ask of what kind a bucket is.
        names = {"FSSPEC_GS_TOKEN": "anon", "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
        yield "gs://pal/set", {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}", **names}
    finally:
        server.stop()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("corpus"), 4)


def shard(*arguments: object, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return run(["-m", "shards.cli", *map(str, arguments)], environment)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["az", "gs"])
def test_a_set_is_made_verified_and_copied_back(place, corpus, tmp_path) -> None:
    with azurite(tmp_path) if place == "az" else google() as (url, environment):
        tried = run(["-c", _EXERCISE, f"{url}-try"], environment)
        assert tried.returncode == 0, tried.stderr
        assert shard("build", corpus, tmp_path / "local", *SMALL, environment={}).returncode == 0
        built = shard("build", corpus, url, *SMALL, environment=environment)
        assert built.returncode == 0, built.stderr
        verified = shard("verify", url, environment=environment)
        assert verified.returncode == 0, verified.stderr
        code = (
            "import sys; from pal_ds import storage\n"
            "for info in storage.iter_files(sys.argv[1]):\n"
            "    storage.write_bytes(f'{sys.argv[2]}/{info.relative}', storage.read_bytes(info.url))"
        )
        assert run(["-c", code, url, str(tmp_path / "back")], environment).returncode == 0
    assert files_of(tmp_path / "back") == files_of(tmp_path / "local")


@pytest.mark.slow
def test_wrong_keys_of_azure_are_one_line(corpus, tmp_path) -> None:
    with azurite(tmp_path) as (url, environment):
        wrong = {
            name: value.replace("AccountKey=Eby8", "AccountKey=Eby9") for name, value in environment.items()
        }
        refused = shard("build", corpus, url, *SMALL, environment=wrong)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1, refused.stderr
    assert "failed to authenticate" in refused.stderr


@pytest.mark.slow
def test_a_set_on_the_hub_is_verified_one_request_a_range(corpus, tmp_path) -> None:
    pytest.importorskip("huggingface_hub")
    assert shard("build", corpus, tmp_path / "videos" / "set", *SMALL, environment={}).returncode == 0
    url = "hf://datasets/me/videos/set"
    with HubServer(tmp_path / "videos", "me/videos", "hf_secret") as server:
        stranger = {
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        refused = shard("verify", url, environment=stranger)
        assert refused.returncode == 2
        assert "make sure you are authenticated" in refused.stderr
        known = {**stranger, "HF_TOKEN": "hf_secret"}
        verified = shard("verify", url, environment=known)
        assert verified.returncode == 0, verified.stderr
        refused = shard("build", corpus, "hf://datasets/me/videos/new", *SMALL, environment=known)
        assert refused.returncode == 2
        assert "hf upload" in refused.stderr
        server.token = None
        server.asked.clear()
        code = f"from pal_ds import storage; storage.read_range('{url}/train-000000.tar', 5, 900)"
        assert run(["-c", code], stranger).returncode == 0
    assert [asked for asked in server.asked if asked[2]] == [
        ("GET", "/datasets/me/videos/resolve/main/set/train-000000.tar", "bytes=5-899")
    ]
    assert len(server.asked) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["FSSPEC_S3_REQUESTER_PAYS", "FSSPEC_S3_ANON", ""])
def test_who_pays_and_who_has_no_keys_is_chosen_by_environment(s3_server: S3Server, tmp_path, choice) -> None:
    url = f"{s3_server.bucket('payers')}/set/{choice}"
    code = "import sys; from pal_ds import storage; storage.write_bytes(sys.argv[1], bytes(9000))"
    assert run(["-c", code, f"{url}/x"], s3_server.env).returncode == 0
    with HeaderKeeper(s3_server.port) as store:
        environment = {**s3_server.env, "AWS_ENDPOINT_URL": store.url}
        if choice:
            environment[choice] = "true"
        code = (
            "import sys; from pal_ds import storage\n"
            "retry = storage.RetryPolicy(budget_seconds=5)\n"
            "try:\n"
            "    storage.read_bytes(sys.argv[1], retry=retry)\n"
            "    storage.read_range(sys.argv[1], 10, 5000, retry=retry)\n"
            "except storage.StorageAccessError as error:\n"
            "    sys.exit(f'refused: {error}')"
        )
        done = run(["-c", code, f"{url}/x"], environment)
    assert store.heads
    if choice == "FSSPEC_S3_ANON":
        # This server refuses strangers; that they come without a key is what counts here.
        assert done.stderr.startswith("refused: ")
        assert not any(b"credential" in head or b"authorization" in head for head in store.heads)
        return
    assert done.returncode == 0, done.stderr
    reads = [head for head in store.heads if head.startswith(b"get /payers/set/")]
    pays = choice == "FSSPEC_S3_REQUESTER_PAYS"
    assert all((b"x-amz-request-payer: requester" in head) == pays for head in reads)
    # Ranges are read by a signed URL, which the server checks with the header in it.
    assert any(b"\nrange: bytes=10-4999" in head and b"x-amz-signature=" in head for head in reads)


def test_a_store_without_its_library_says_which_extra_brings_it(tmp_path) -> None:
    code = (
        "import sys; sys.modules['adlfs'] = None; from shards.cli import main; "
        "sys.exit(main(['verify', 'az://container/set']))"
    )
    done = run(["-c", code], {})
    assert done.returncode == 2
    assert "pip install 'pal-ds[azure]'" in done.stderr
