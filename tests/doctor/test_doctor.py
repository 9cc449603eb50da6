"""The doctor: what it finds, what it says about it, and that nothing it meets stops it."""

from __future__ import annotations

import datetime
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.demo.s3_server import S3Server
from pal_ds import storage
from pal_ds.doctor import machine
from pal_ds.doctor import storage as places
from pal_ds.doctor.checkup import _checks, doctor, examine
from pal_ds.doctor.finding import FAIL, OK, WARN, Finding, ok


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def test_installed_packages_fit() -> None:
    findings = machine.packages(importer=lambda name: None)
    assert {finding.state for finding in findings} == {OK}
    assert {"torch", "torchcodec", "deepspeed"} <= {finding.name for finding in findings}


def test_a_build_that_does_not_load_is_told_with_the_first_line_of_its_error() -> None:
    def importer(name: str) -> None:
        if name == "torchcodec":
            raise RuntimeError("Could not load libtorchcodec.\nLikely causes: …")

    failed = only([finding for finding in machine.packages(importer) if finding.state == FAIL])
    assert failed.name == "torchcodec"
    assert failed.text == "does not load: RuntimeError: Could not load libtorchcodec."
    assert "FFmpeg" in failed.fix


def test_a_missing_or_old_package_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["torch>=99", "not-a-package-of-anyone>=1", 'ray>=2; extra == "ray"']
    monkeypatch.setattr(machine.importlib.metadata, "requires", lambda name: wanted)
    failed = {
        finding.name: finding for finding in machine.packages(lambda name: None) if finding.state == FAIL
    }
    assert failed["torch"].fix == "pip install 'torch>=99'"
    assert failed["not-a-package-of-anyone"].text == "not installed"
    assert "ray" not in failed


def test_the_ffmpeg_command_is_looked_for() -> None:
    assert only(machine.ffmpeg()).state == OK
    missing = only(machine.ffmpeg(which=lambda name: None))
    assert (missing.state, missing.name) == (FAIL, "ffmpeg")
    assert "apt-get install ffmpeg" in missing.fix


def test_a_generated_clip_is_really_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.decoding()[0].state == OK
    monkeypatch.setattr(machine, "_CLIP", "color=black:size=176x128:rate=25:duration=10")
    assert machine.decoding()[0].state == FAIL
    monkeypatch.setattr(machine, "_CLIP", "testsrc2=size=176x128:rate=25:duration=4")
    broken = only(examine([("decoding", machine.decoding)]))
    assert broken.state == FAIL
    assert "100 frames instead of 250" in broken.text


def test_cores_are_compared_with_what_the_gpus_train() -> None:
    # 921 videos/s at 65 a core are 14.2 cores.
    enough = machine.enough_cores(128, 8, "NVIDIA H100 80GB HBM3", rate=65.0)
    assert (enough.state, enough.fix) == (OK, "")
    assert "can train 921 videos/s, for which 14 are needed" in enough.text
    few = machine.enough_cores(57, 8, "NVIDIA H100 80GB HBM3", rate=65.0)
    assert few.state == WARN
    assert "about 50 % of the GPU" in few.fix


def test_an_unknown_gpu_is_not_guessed_at() -> None:
    assert "not known" in machine.enough_cores(16, 1, "Some GPU", rate=65.0).text


@pytest.mark.parametrize(
    ("version", "state"), [(91002, FAIL), (91400, FAIL), (91501, OK), (90100, OK), (8907, OK), (None, FAIL)]
)
def test_cudnn_with_wrong_convolutions_is_refused(version: int | None, state: str) -> None:
    # Before 9, cuDNN counted 1000 a major version.
    assert only(machine.cudnn_findings("2.9.0", version)).state == state


def test_ranks_can_reduce_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(machine.communication()).state == OK
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "no-such-interface")
    broken = only(machine.communication())
    assert broken.state == FAIL
    assert "GLOO_SOCKET_IFNAME=no-such-interface" in broken.fix


def test_limits_are_judged(tmp_path: Path) -> None:
    assert only(machine.open_files((65536, 65536))).state == OK
    assert only(machine.open_files((2048, 4096))).state == WARN
    low = only(machine.open_files((256, 4096)))
    assert low.state == FAIL
    assert "4096" in low.fix
    assert only(machine.shared_memory(str(tmp_path), gpus=1)).state == OK
    assert only(machine.shared_memory(str(tmp_path / "none"), gpus=8)).state == WARN
    assert only(machine.shared_memory(str(tmp_path), gpus=1_000_000)).state == FAIL


def test_a_check_that_breaks_is_a_finding_and_stops_no_other() -> None:
    def broken() -> list[Finding]:
        raise RuntimeError("two\nlines")

    found = examine([("first", broken), ("second", lambda: [ok("second", "fine")])])
    assert [finding.state for finding in found] == [FAIL, OK]
    assert found[0].text == "the check itself broke: RuntimeError: two lines"


class RefusalError(Exception):
    """As the client library raises it."""

    def __init__(self, code: str, message: str) -> None:
        self.response = {"Error": {"Code": code, "Message": message}}
        super().__init__(message)


@pytest.mark.parametrize(
    ("code", "message", "fix"),
    [
        ("AccessDenied", "not authorized to perform: kms:GenerateDataKey on resource", "kms:GenerateDataKey"),
        ("AccessDenied", "User is not authorized to perform: kms:Decrypt", "kms:Decrypt"),
        ("KMS.DisabledException", "is disabled", "disabled"),
        ("ExpiredToken", "The provided token has expired.", "expired"),
        ("RequestTimeTooSkewed", "The difference is too large", "clock"),
        ("SignatureDoesNotMatch", "The signature we calculated", "AWS_SECRET_ACCESS_KEY"),
        ("AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong", "AWS_DEFAULT_REGION"),
        ("AccessDenied", "Bucket is a requester pays bucket", "FSSPEC_S3_REQUESTER_PAYS=true"),
        ("AccessDenied", "Access Denied", "s3:GetObject"),
    ],
)
def test_refusals_are_explained(code: str, message: str, fix: str) -> None:
    error = storage.StorageAccessError("s3://KMS-bucket/x", message)
    error.__cause__ = PermissionError(message)
    error.__cause__.__cause__ = RefusalError(code, message)
    assert fix in places.explain(error, "s3:GetObject")


class Credentials:
    """What the client library's provider chain gives."""

    method = "env"

    def __init__(self, token: str | None) -> None:
        self.token = token


@pytest.mark.parametrize(
    ("token", "hours", "state"),
    [(None, None, OK), ("t", None, WARN), ("t", 1, WARN), ("t", 48, OK), ("t", -1, FAIL)],
)
def test_credentials_are_asked_when_they_end(token: str | None, hours: float | None, state: str) -> None:
    environment = {}
    if hours is not None:
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
        environment["AWS_CREDENTIAL_EXPIRATION"] = end.isoformat()
    found = only(places.credentials(environment, lambda: Credentials(token)))
    assert found.state == state


def test_credentials_that_renew_themselves_are_fine_and_missing_ones_are_not(tmp_path: Path) -> None:
    renewing = Credentials("t")
    renewing.refresh_needed = lambda: False
    assert only(places.credentials({}, lambda: renewing)).state == OK
    assert only(places.credentials({}, lambda: None)).state == FAIL
    missing = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token")}
    assert "missing" in only(places.credentials(missing, lambda: renewing)).text


@pytest.fixture
def bucket_elsewhere() -> Iterator[str]:
    """An endpoint that redirects to a bucket's region, as S3 does, a minute and a half in the past."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(301)
            self.send_header("x-amz-bucket-region", "eu-west-1")
            past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=90)
            self.send_header("Date", past.strftime("%a, %d %b %Y %H:%M:%S GMT"))
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_bucket_in_another_region_and_a_wrong_clock_are_told(bucket_elsewhere: str) -> None:
    environment = {"AWS_ENDPOINT_URL": bucket_elsewhere, "AWS_DEFAULT_REGION": "us-east-1"}
    region, clock = places.endpoint("s3://bucket/set", environment)
    assert (region.state, region.name) == (WARN, "region")
    assert "eu-west-1" in region.text
    assert "us-east-1" in region.text
    assert (clock.state, clock.name) == (WARN, "clock")
    assert "ahead" in clock.text
    same = places.endpoint("s3://bucket/set", {**environment, "AWS_DEFAULT_REGION": "eu-west-1"})
    assert same[0].state == OK
    assert places.clock(1000.0).state == FAIL


def test_an_endpoint_that_is_not_there_is_told_without_its_password() -> None:
    environment = {"AWS_ENDPOINT_URL": "http://user:secret@127.0.0.1:9"}
    found = only(places.endpoint("s3://bucket/set", environment))
    assert found.state == FAIL
    assert "secret" not in found.text


def test_a_local_run_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    found = places.run_folder(str(tmp_path / "a" / "run"))
    assert [finding.state for finding in found] == [OK, OK]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("in the way")
    assert places.run_folder(str(tmp_path / "file"))[0].state == FAIL


def test_a_missing_or_unfinished_set_is_told(tmp_path: Path) -> None:
    assert only(places.shards(str(tmp_path))).state == FAIL
    (tmp_path / "manifest.json").write_text('{"format": "pal-shardset/99"}')
    assert "pal-shard" in only(places.shards(str(tmp_path))).fix


def test_the_command_reports_and_its_status_says_whether_anything_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = [("limits", lambda: machine.open_files((65536, 65536)))]
    monkeypatch.setattr(
        "pal_ds.doctor.checkup._checks",
        lambda shards, run_dir: [*checks, ("run folder", lambda: places.run_folder(run_dir))],
    )
    assert doctor(["--run-dir", str(tmp_path / "run"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["healthy"] is True
    assert {finding["state"] for finding in document["findings"]} == {OK}
    (tmp_path / "file").write_text("")
    assert doctor(["--run-dir", str(tmp_path / "file")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("FAIL  run folder")
    assert lines[2].strip().startswith("fix: ")
    assert lines[-1] == "2 checks: 1 failed, 0 with a warning"


@pytest.mark.slow
def test_a_healthy_set_and_bucket(
    tiny_set: Path, s3_env: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    s3_env.bucket("doctor-runs")
    status = doctor(["--shards", str(tiny_set), "--run-dir", "s3://doctor-runs/run", "--json"])
    found = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    names = [name for name, _ in _checks("s3://doctor-runs/set", "s3://doctor-runs/run")]
    assert names.count("endpoint") == 1, "one question a bucket"
    assert [name for name, _ in _checks("s3://others/set", "s3://doctor-runs/run")].count("endpoint") == 2
    assert status == 0, found
    for name in ("shards", "run folder", "credentials", "endpoint", "clock", "communication"):
        assert found[name]["state"] == OK, found[name]
    assert "34 clips" in found["shards"]["text"]
    assert storage.list_names("s3://doctor-runs/run") == []


@pytest.mark.slow
def test_a_bucket_that_may_not_be_written_and_wrong_keys(
    s3_env: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    s3_env.bucket("doctor-locked")
    for name, value in s3_env.read_only_env.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    locked = only(places.run_folder("s3://doctor-locked/run"))
    assert locked.state == FAIL
    assert "nothing can be written" in locked.text
    assert "s3:PutObject" in locked.fix
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3fs.S3FileSystem.clear_instance_cache()
    refused = only(places.shards("s3://doctor-locked/set"))
    assert refused.state == FAIL
    assert refused.fix
    assert "wrong" not in refused.text


def test_an_exported_accelerator_is_found_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91600)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    found = machine.device()
    assert [(finding.state, finding.name) for finding in found] == [("FAIL", "device"), ("OK", "cudnn")]
    assert "unset DS_ACCELERATOR" in found[0].fix
    monkeypatch.delenv("DS_ACCELERATOR")
    assert [finding.state for finding in machine.device()] == ["OK"]


def test_a_decoder_that_falls_back_to_the_cpu_is_told_of() -> None:
    class Status:
        def __init__(self, fell: bool) -> None:
            self._fell = fell

        def __bool__(self) -> bool:
            return self._fell

        def __str__(self) -> str:
            return "NVcuvid unavailable"

    assert machine.fallback_finding(Status(False), "fix").text == "the GPU decodes (NVDEC)"
    told = machine.fallback_finding(Status(True), "fix")
    assert (told.state, told.fix) == ("WARN", "fix")
    assert "NVcuvid unavailable" in told.text
    assert machine.fallback_finding(None, "fix").state == "OK"
    assert machine.video_engine() == []
