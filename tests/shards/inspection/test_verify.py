"""verify finds every kind of damage; stats and ls agree with the set."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.inspection.statistics import listing, statistics
from shards.inspection.verify import verify
from tests.support.shard_files import records_of


@pytest.fixture(scope="module")
def sound(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished set with one reject."""
    from shards.cli import main

    folder = tmp_path_factory.mktemp("sound")
    shutil.copytree(corpus, folder / "videos")
    (folder / "videos" / "class 0" / "bad.mp4").write_text("no video")
    arguments = ["build", str(folder / "videos"), str(folder / "set"), "--shard-bytes", "60KB", "--quiet"]
    assert main([*arguments, "--with-labels"]) == 3
    return folder / "set"


def test_a_sound_set_is_sound_also_when_decoded(sound: Path) -> None:
    found = verify(str(sound), decode=True, workers=2, quiet=True)
    assert (found.problems, found.clips, found.decoded) == ([], 12, 12)


def test_no_worker_at_all_is_refused_and_not_taken_for_all_cores(
    sound: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from shards.cli import main

    assert main(["verify", str(sound), "--workers", "0"]) == 2
    assert "--workers 0: give at least 1" in capsys.readouterr().err


def _first(folder: Path) -> Path:
    return sorted(folder.glob("*.tar"))[0]


def _flip(folder: Path) -> None:
    data = bytearray(_first(folder).read_bytes())
    data[700] ^= 1
    _first(folder).write_bytes(data)


def _flip_and_rehash(folder: Path) -> None:
    """Damage inside a clip that the manifest's checksum agrees with."""
    _flip(folder)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["splits"]["train"]["shards"][0]["sha256"] = hashlib.sha256(
        _first(folder).read_bytes()
    ).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _cut(folder: Path) -> None:
    _first(folder).write_bytes(_first(folder).read_bytes()[:-2000])


def _edit(name: str, change: Callable[[dict], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = sorted(folder.glob(name))[0]
        document = json.loads(path.read_bytes())
        change(document)
        path.write_text(json.dumps(document))

    return apply


def _swap(document: dict) -> None:
    document["samples"][0]["offset"] += 512


def _fewer(document: dict) -> None:
    document["samples"].pop()


def _frames(document: dict) -> None:
    document["samples"][0]["frames"] += 1


def _clips(document: dict) -> None:
    document["splits"]["train"]["clips"] += 1


def _rejected(document: dict) -> None:
    document["rejected"] = 7


@pytest.mark.parametrize(
    "damage",
    [
        _flip,
        _flip_and_rehash,
        _cut,
        _edit("*.index.json", _swap),
        _edit("*.index.json", _fewer),
        _edit("*.index.json", _frames),
        _edit("manifest.json", _clips),
        _edit("manifest.json", _rejected),
        lambda folder: _first(folder).unlink(),
        lambda folder: sorted(folder.glob("*.index.json"))[0].unlink(),
        lambda folder: (folder / "rejects.jsonl").unlink(),
        lambda folder: shutil.copy(_first(folder), folder / "train-000099.tar"),
        lambda folder: sorted(folder.glob("*.index.json"))[0].write_text("{}"),
    ],
)
def test_every_damage_is_found(sound: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    broken = tmp_path / "set"
    shutil.copytree(sound, broken)
    damage(broken)
    assert verify(str(broken), quiet=True).problems


def test_other_tools_files_beside_a_set_are_a_note(sound: Path, tmp_path: Path, pal_shard) -> None:
    """What ``energon prepare`` writes into the folder that it prepares, and what people leave there."""
    used = tmp_path / "set"
    shutil.copytree(sound, used)
    (used / ".nv-meta").mkdir()
    for name in (".nv-meta/split.yaml", ".nv-meta/index.sqlite", f"{_first(used).name}.idx", "notes.txt"):
        (used / name).write_text("x")
    names = {".nv-meta", "notes.txt", f"{_first(used).name}.idx"}
    found = verify(str(used), quiet=True)
    assert found.problems == []
    assert {note.partition(":")[0] for note in found.notes} == names
    done = pal_shard("verify", used)
    assert done.returncode == 0
    assert "sound" in done.stdout
    assert done.stdout.count("note: ") == 3
    # The finished set is still a finished set; it is only not overwritten with them in it.
    again = ("build", sound.parent / "videos", used, "--shard-bytes", "60KB", "--with-labels", "--quiet")
    assert pal_shard(*again).returncode == 3
    refused = pal_shard(*again, "--overwrite")
    assert refused.returncode == 2
    assert "is no part of a shard set" in refused.stderr
    assert {path.name for path in used.iterdir()} >= names


def test_statistics_and_listing_agree_with_the_records(sound: Path) -> None:
    records = list(records_of(sound).values())
    found = statistics(str(sound))
    split = found["splits"]["train"]
    assert split["frames"] == sum(record["frames"] for record in records)
    assert sum(split["duration"]["counts"]) == len(records) == found["clips"]
    assert found["rejects"] == {"probe": 1}
    assert found["labels"] == 2
    shards = listing(str(sound), None)["shards"]
    assert sum(shard["clips"] for shard in shards) == 12
    samples = [row for shard in shards for row in listing(str(sound), shard["name"])["samples"]]
    assert {row["key"] for row in samples} == {record["key"] for record in records}


@pytest.mark.parametrize("command", ["verify", "stats", "ls"])
def test_commands_print_one_object_and_say_what_is_no_set(sound, tmp_path, pal_shard, command) -> None:
    done = pal_shard(command, sound, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)
    for place in (tmp_path / "nothing", tmp_path):
        refused = pal_shard(command, place)
        assert refused.returncode == 2
        assert len(refused.stderr.strip().splitlines()) == 1


def test_help_teaches_and_stays_free_of_heavy_imports(pal_shard) -> None:
    import subprocess
    import sys

    done = pal_shard("--help")
    assert done.returncode == 0
    assert "examples:" in done.stdout
    modules = "sys, shards.cli, shards.builder.build, shards.inspection.verify"
    code = f"import {modules}; print({{'torch', 'webdataset'}} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "set()"
