"""``pal-doctor``: is this machine, with these places, fit for a run? Each line says the fix."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

import yaml

from pal_ds.command_line.parser import CommandParser, Example
from pal_ds.doctor.finding import FAIL, WARN, Check, Finding, fail

_EXAMPLES = (
    Example("this machine", "pal-doctor"),
    Example(
        "the places of a run, too", "pal-doctor --shards s3://bucket/k400 --run-dir s3://bucket/runs/pal-1"
    ),
)
EXIT_HEALTHY = 0
EXIT_SICK = 1


def examine(checks: Sequence[tuple[str, Check]]) -> list[Finding]:
    """Run all checks; one that breaks is a finding itself and keeps none of the others from running.

    Args:
        checks: name and function of each check, in order.
    """
    findings: list[Finding] = []
    for name, check in checks:
        try:
            findings += check()
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            findings.append(
                fail(name, f"the check itself broke: {type(error).__name__}: {text}", "see the error")
            )
    return findings


def build_parser() -> CommandParser:
    """Return the parser of the command."""
    parser = CommandParser(
        prog="pal-doctor",
        description="Check versions, decoding, GPU, limits and storage; say the fix for what is wrong.",
        examples=_EXAMPLES,
        closing="Run it where the ranks run, with their variables.\n\nexit status: 0 nothing failed; 1 something did",
        top=True,
    )
    parser.add_argument(
        "--shards",
        metavar="URL|LIST",
        help="shard set that the run will read, or the list of sets in data.shards: '[{url: ..., weight: 2}, ...]'",
    )
    parser.add_argument("--run-dir", metavar="URL", help="run folder: a small object is written and deleted")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def doctor(words: list[str]) -> int:
    """Run the command line ``pal-doctor [--shards URL] [--run-dir URL] [--json]``.

    Args:
        words: the arguments.

    Returns:
        0 where nothing failed (warnings allowed), else 1.
    """
    args = build_parser().parse_args(words)
    # Libraries that greet on stdout must not stand in front of the report.
    with contextlib.redirect_stdout(sys.stderr):
        findings = examine(_checks(args.shards, args.run_dir))
    sick = any(finding.state == FAIL for finding in findings)
    if args.json:
        document = {"healthy": not sick, "findings": [dataclasses.asdict(finding) for finding in findings]}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    else:
        sys.stdout.writelines(_lines(findings))
    return EXIT_SICK if sick else EXIT_HEALTHY


def _checks(shards: str | None, run_dir: str | None) -> list[tuple[str, Check]]:
    # Deferred: what these import may itself be what is broken.
    from pal_ds.doctor import machine
    from pal_ds.doctor import storage as places

    _choose_accelerator()
    checks: list[tuple[str, Check]] = [
        ("packages", machine.packages),
        ("ffmpeg", machine.ffmpeg),
        ("decoding", machine.decoding),
        ("device", machine.device),
        ("video engine", machine.video_engine),
        ("half precision", machine.half_precision),
        ("communication", machine.communication),
        ("shared memory", machine.shared_memory),
        ("open files", machine.open_files),
    ]
    urls = [*_urls_of(shards or ""), run_dir]
    # One URL a bucket: shards and run folder often lie in the same.
    buckets = {urlsplit(url).netloc: url for url in urls if url and url.startswith(("s3://", "s3a://"))}
    if buckets:
        checks.append(("credentials", places.credentials))
        checks += [("endpoint", lambda url=url: places.endpoint(url)) for url in buckets.values()]  # type: ignore[misc]
    if shards and shards.lstrip().startswith("["):
        checks.append(("shards", lambda: _shard_sets(shards)))
    elif shards:
        checks.append(("shards", lambda: places.shards(shards)))
    if run_dir:
        checks.append(("run folder", lambda: places.run_folder(run_dir)))
    return checks


def _shard_sets(shards: str) -> list[Finding]:
    from pal_ds.doctor.shard_sets import shard_sets

    return shard_sets(shards)


def _urls_of(shards: str) -> list[str]:
    """Return the URLs in ``data.shards``; what can't be understood is told by its own check."""
    if not shards.lstrip().startswith("["):
        return [shards]
    with contextlib.suppress(yaml.YAMLError):
        entries = yaml.safe_load(shards)
        return [str(entry.get("url", "")) if isinstance(entry, dict) else str(entry) for entry in entries]
    return []


def _choose_accelerator() -> None:
    """Keep DeepSpeed from looking for a GPU that torch doesn't see."""
    with contextlib.suppress(Exception):  # whatever keeps torch from loading, the package check tells
        import torch

        if not torch.cuda.is_available():
            os.environ.setdefault("DS_ACCELERATOR", "cpu")


def _lines(findings: Sequence[Finding]) -> list[str]:
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<4}  {finding.name:<{width}}  {finding.text}\n")
        if finding.fix:
            lines.append(f"{'':<4}  {'':<{width}}  fix: {finding.fix}\n")
    failed = sum(finding.state == FAIL for finding in findings)
    warned = sum(finding.state == WARN for finding in findings)
    lines.append(f"{len(findings)} checks: {failed} failed, {warned} with a warning\n")
    return lines
