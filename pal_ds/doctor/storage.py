"""What the doctor looks at in storage: credentials, endpoint, shard set, run folder; refusals are explained."""

from __future__ import annotations

import datetime
import email.utils
import os
import secrets
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pal_ds import storage
from pal_ds.doctor.finding import Finding, fail, ok, warn
from pal_ds.formats import shardset
from pal_ds.formats.tar_samples import sample_in

#: What a store says, and what is meant. The first that fits is told; needles are looked for in code and message.
_EXPLANATIONS: tuple[tuple[str, str], ...] = (
    (
        "kms:GenerateDataKey",
        "the bucket encrypts with SSE-KMS: grant kms:GenerateDataKey on its key for writing",
    ),
    ("kms:Decrypt", "the bucket encrypts with SSE-KMS: grant kms:Decrypt on its key for reading"),
    (
        "KMS.",
        "the bucket's SSE-KMS key is disabled, deleted or elsewhere: enable it, or change the bucket's key",
    ),
    ("KMS", "SSE-KMS refuses: grant kms:Decrypt and kms:GenerateDataKey on the bucket's key"),
    ("ExpiredToken", "the session token has expired: renew it, or give the job a role that renews itself"),
    (
        "TokenRefreshRequired",
        "the session token has expired: renew it, or give the job a role that renews itself",
    ),
    ("InvalidToken", "AWS_SESSION_TOKEN does not belong to these keys: unset it or renew all three"),
    ("RequestTimeTooSkewed", "this machine's clock is wrong by more than 15 minutes: set it by NTP"),
    ("InvalidAccessKeyId", "the store does not know AWS_ACCESS_KEY_ID: check it, and AWS_ENDPOINT_URL"),
    ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY is wrong for this AWS_ACCESS_KEY_ID"),
    ("InvalidPayer", "the bucket is requester-pays: set FSSPEC_S3_REQUESTER_PAYS=true"),
    ("equester", "the bucket is requester-pays: set FSSPEC_S3_REQUESTER_PAYS=true"),
    ("PermanentRedirect", "the bucket is in another region: set AWS_DEFAULT_REGION to the bucket's"),
    (
        "AuthorizationHeaderMalformed",
        "the bucket is in another region: set AWS_DEFAULT_REGION to the bucket's",
    ),
    ("IllegalLocationConstraint", "the bucket is in another region: set AWS_DEFAULT_REGION to the bucket's"),
    (
        "NoCredentials",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role",
    ),
    (
        "NoSuchBucket",
        "the bucket does not exist at this endpoint: check its name, AWS_ENDPOINT_URL and region",
    ),
    (
        "EndpointConnection",
        "nothing answers at AWS_ENDPOINT_URL: check the address, the port and the network",
    ),
    ("ConnectTimeout", "the endpoint does not answer: check the network, proxies and VPC endpoints"),
)
_REFUSED = (
    "check the keys; a policy must allow s3:ListBucket and {action}; a requester-pays bucket needs "
    "FSSPEC_S3_REQUESTER_PAYS=true; a bucket with SSE-KMS needs the key's kms: rights too"
)
_SKEW_FAILS = 900.0
_SKEW_WARNS = 60.0
_SOON = datetime.timedelta(hours=12)


def explain(error: BaseException, action: str) -> str:
    """Return what to do about a storage error, from the code that the store gave.

    Args:
        error: a ``StorageError`` with its causes.
        action: the right that was needed, e.g. ``s3:GetObject``.
    """
    said = _said(error)
    for needle, meaning in _EXPLANATIONS:
        if needle in said:
            return meaning
    if isinstance(error, storage.StorageAccessError):
        return _REFUSED.format(action=action)
    if isinstance(error, storage.StorageNotFoundError):
        return "check the URL"
    return "the store does not answer as it should: try again, then look at its status and the network"


def credentials(environment: Mapping[str, str] = os.environ, provider: Any = None) -> list[Finding]:
    """Find out which credentials the S3 client would use, and whether they outlive a run.

    Args:
        environment: the process's variables.
        provider: stands in for the client library's provider chain in tests.
    """
    token_file = environment.get("AWS_WEB_IDENTITY_TOKEN_FILE")
    if token_file and not Path(token_file).exists():
        fix = "mount the service account's token, or unset AWS_WEB_IDENTITY_TOKEN_FILE"
        return [fail("credentials", f"web identity token file {token_file} is missing", fix)]
    found = (provider or _provider_chain)()
    if found is None:
        return [fail("credentials", "none found", dict(_EXPLANATIONS)["NoCredentials"])]
    text = f"from {found.method}"
    if hasattr(found, "refresh_needed"):
        return [ok("credentials", f"{text}; renewed by themselves")]
    if not found.token:
        return [ok("credentials", f"{text}; keys without an end")]
    return [_token_end(text, environment.get("AWS_CREDENTIAL_EXPIRATION"))]


def _token_end(text: str, end: str | None) -> Finding:
    """Judge a session token that nobody renews, by the time when it ends (ISO 8601)."""
    fix = "use a profile, role or web identity, which are renewed while the run goes on, instead of variables"
    if not end:
        return warn("credentials", f"{text}; a session token that ends at an unknown time", fix)
    left = datetime.datetime.fromisoformat(end) - datetime.datetime.now(datetime.UTC)
    if left.total_seconds() <= 0:
        return fail("credentials", f"{text}; expired at {end}", dict(_EXPLANATIONS)["ExpiredToken"])
    if left < _SOON:
        return warn("credentials", f"{text}; expire in {left.total_seconds() / 3600:.1f} hours", fix)
    return ok("credentials", f"{text}; expire at {end}")


def endpoint(url: str, environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Ask the endpoint, without credentials, for the bucket's region and for its time.

    Args:
        url: any S3 URL in the bucket.
        environment: the process's variables.
    """
    bucket = urllib.parse.urlsplit(url).netloc.rsplit("@", 1)[-1]
    base = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    base = (base or "https://s3.amazonaws.com").rstrip("/")
    shown = storage.redact(base)
    started = time.time()
    try:
        headers = _head(f"{base}/{bucket}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return [fail("endpoint", f"{shown}: {reason}", dict(_EXPLANATIONS)["EndpointConnection"])]
    findings = []
    region, here = headers.get("x-amz-bucket-region"), _region(environment)
    if region and here and region != here:
        fix = f"run in {region}, or copy the data; otherwise set AWS_DEFAULT_REGION={region} and pay the transfer"
        findings.append(warn("region", f"bucket {bucket} is in {region}, this machine is set to {here}", fix))
    else:
        findings.append(
            ok("endpoint", f"{shown} answers for bucket {bucket}" + (f" in {region}" if region else ""))
        )
    if "date" in headers:
        there = email.utils.parsedate_to_datetime(headers["date"]).timestamp()
        findings.append(clock((started + time.time()) / 2 - there))
    return findings


def clock(skew: float) -> Finding:
    """Judge the difference between this machine's clock and the store's, in seconds."""
    text = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the store"
    if abs(skew) > _SKEW_FAILS:
        return fail("clock", text, "requests are refused (RequestTimeTooSkewed): set the clock by NTP")
    if abs(skew) > _SKEW_WARNS:
        return warn(
            "clock", text, "set the clock by NTP before it drifts to 15 minutes, where requests are refused"
        )
    return ok("clock", "agrees with the store within a minute")


def shards(url: str, name: str = "train") -> list[Finding]:
    """Read the manifest, an index and a sample of a split, as training will, and decode the sample."""
    from pal_ds.data.decode import decode_frames

    shown = storage.redact(url)
    try:
        manifest = shardset.load_manifest(url)
        split = manifest.splits.get(name)
        if split is None:
            text = f"{shown}: no {name} split, it has {', '.join(sorted(manifest.splits)) or 'none'}"
            return [fail("shards", text, f"build one with pal-shard build … --split {name}")]
        first = split.shards[0]
        index = shardset.load_index(url, first.name)
        sample = index.samples[0]
        started = time.perf_counter()
        data = storage.read_range(
            index.tar(url), sample.offset, sample.offset + sample.size, retry=storage.AT_START
        )
        seconds = time.perf_counter() - started
    except shardset.ShardSetError as error:
        return [
            fail("shards", _one_line(error), "finish it with pal-shard build, check it with pal-shard verify")
        ]
    except storage.StorageError as error:
        return [fail("shards", _one_line(error), explain(error, "s3:GetObject"))]
    member = sample_in(data, sample)
    decode_frames(member.video, member.record, [0, member.record.frames - 1])
    speed = f"{len(data) / 1e3:.0f} kB in {seconds * 1e3:.0f} ms"
    findings = [
        ok("shards", f"{shown}: {split.clips} clips in {len(split.shards)} shards; a clip of {speed}")
    ]
    if "val" not in manifest.splits:
        fix = "pal-shard build --val-fraction 0.02, or a schedule other than plateau"
        findings.append(warn("shards", "no val split: no validation, and no plateau schedule", fix))
    return findings


def run_folder(url: str) -> list[Finding]:
    """Write, read back and delete a small object below the run folder; look at the free space of a local one."""
    made = _missing_parents(url)
    probe = storage.join(url, f".doctor-{secrets.token_hex(8)}")
    payload = secrets.token_bytes(64)
    step, action = "written", "s3:PutObject"
    try:
        storage.write_bytes(probe, payload, retry=storage.AT_START)
        step, action = "read back", "s3:GetObject"
        same = storage.read_bytes(probe, retry=storage.AT_START) == payload
        step, action = "deleted", "s3:DeleteObject"
        storage.remove(probe, retry=storage.AT_START)
    except storage.StorageError as error:
        return [fail("run folder", f"nothing can be {step}: {_one_line(error)}", explain(error, action))]
    except OSError as error:
        fix = "choose a folder that this user may write, on a disk with space"
        return [fail("run folder", f"nothing can be {step}: {_one_line(error)}", fix)]
    finally:
        for folder in made:
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()
    if not same:
        fix = "the store returns other bytes than were written: don't keep checkpoints there"
        return [fail("run folder", f"{storage.redact(url)}: an object read back differs", fix)]
    return [ok("run folder", f"{storage.redact(url)}: write, read and delete work"), *_free_space(url)]


def _free_space(url: str) -> list[Finding]:
    if not storage.is_local(url):
        return []
    folder = storage.local_path(url).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    text = f"{free / 2**30:.1f} GiB free"
    if free < 2**30:
        return [warn("disk", text, "a checkpoint of I3D is 0.2 GB and four may exist at once: make room")]
    return [ok("disk", text)]


def _missing_parents(url: str) -> list[Path]:
    """Return the local folders that writing below ``url`` would make, innermost first."""
    if not storage.is_local(url):
        return []
    folder, missing = storage.local_path(url).absolute(), []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    return missing


def _said(error: BaseException) -> str:
    """Return the texts and codes of an error and all its causes."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None:
        # A storage error's own text holds the URL, in which anything may stand.
        parts += [type(current).__name__, "" if isinstance(current, storage.StorageError) else str(current)]
        response = getattr(current, "response", None)
        if isinstance(response, dict):
            parts += [str(value) for value in response.get("Error", {}).values()]
        current = current.__cause__
    return " ".join(parts)


def _provider_chain() -> Any:
    import botocore.session

    return botocore.session.get_session().get_credentials()


def _region(environment: Mapping[str, str]) -> str | None:
    return environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")


def _head(url: str) -> dict[str, str]:
    """Return the headers of a HEAD request, of a refusal or a redirect too, with lower-case names."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"not an http address: {url}")
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 (checked above)
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=10) as answer:
            return {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as error:
        return {name.lower(): value for name, value in error.headers.items()}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect's own headers name the bucket's region; following it would lose them."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
