"""The README.md of an exported encoder: what it is, how it was trained, figures beside controls, how to load it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pal_ds.formats.backbone_file import BackboneSpec
from pal_ds.transfer.export.run_record import Figure, RunRecord

#: Licence ids as model hubs know them; ``unknown`` is one of them.
UNKNOWN = "unknown"


def model_card(
    spec: BackboneSpec, record: RunRecord | None, *, parameters: int, license_id: str, name: str
) -> str:
    """Return the card as Markdown with a YAML header.

    Args:
        spec: the encoder.
        record: how it was trained; None where that isn't known.
        parameters: of the encoder.
        license_id: an SPDX id, or ``unknown``.
        name: the model's heading.
    """
    parts = [
        _header(license_id, record),
        f"# {name}",
        _what(spec, parameters),
        *_training(record),
        *_figures(record),
        _licence(license_id),
        _loading(spec),
    ]
    return "\n\n".join(parts) + "\n"


def _header(license_id: str, record: RunRecord | None) -> str:
    tags = ["video", "video-feature-extraction", "temporal-action-localization", "self-supervised"]
    lines = [
        "---",
        f"license: {license_id}",
        "library_name: pal-ds",
        "pipeline_tag: feature-extraction",
        "tags:",
    ]
    lines += [f"- {tag}" for tag in tags]
    if record is not None:
        lines.append(f"- {record.config.get('objective', {}).get('name', 'unknown')}")
    return "\n".join([*lines, "---"])


def _what(spec: BackboneSpec, parameters: int) -> str:
    rows = [
        ("Backbone", f"`{spec.backbone}`, width {spec.width:g}"),
        ("Options", ", ".join(f"`{key}={value}`" for key, value in sorted(spec.options.items())) or "none"),
        ("Parameters", f"{parameters:,}"),
        (
            "Input",
            f"clips [B, 3, {spec.clip_frames}, {spec.size}, {spec.size}], RGB, `(frames / 255 - mean) / std`",
        ),
        ("Mean, standard deviation", f"{list(spec.mean)}, {list(spec.std)}"),
        ("Output", f"one vector a clip, [B, {spec.feature_dim}]"),
        ("SHA-256 of the weights", f"`{spec.digest}`"),
    ]
    return "A video encoder for temporal action localization.\n\n" + _table(("", ""), rows)


def _training(record: RunRecord | None) -> Iterable[str]:
    if record is None:
        return [
            "## Training",
            "Made from weights alone: nothing is known here of their training, so no figure is shown.",
        ]
    data, optimizer = record.config.get("data", {}), record.config.get("optimizer", {})
    objective = record.config.get("objective", {})
    rows = [
        ("Objective", f"`{objective.get('name', 'unknown')}`"),
        ("Data set", _data_set(record)),
        ("Steps", f"{record.step:,}"),
        ("Batch", f"{data.get('global_batch', 'unknown')} videos"),
        ("Optimizer", _optimizer(optimizer)),
        ("Precision", str(record.config.get("precision", "unknown"))),
        ("Seed", str(record.config.get("run", {}).get("seed", "unknown"))),
        ("Machine", _machine(record)),
    ]
    if record.losses is not None:
        first, last = record.losses
        rows.append(
            ("Training loss", f"{first:.4g} in the first tenth of the logged steps, {last:.4g} in the last")
        )
    return ["## Training", _table(("", ""), rows)]


def _data_set(record: RunRecord) -> str:
    counts = ", ".join(
        f"`{split.name}` {split.clips:,} clips ({split.hours:.3g} h)" for split in record.splits
    )
    digest = f"; manifest SHA-256 `{record.manifest}`" if record.manifest else ""
    return (
        f"`{record.dataset}`: {counts or 'its shard set was not readable at export, counts unknown'}{digest}"
    )


def _optimizer(options: dict[str, Any]) -> str:
    shown = ", ".join(
        f"{key} {value}" for key, value in options.items() if isinstance(value, (int, float, str))
    )
    return shown or "unknown"


def _machine(record: RunRecord) -> str:
    device = record.environment.get("device", {})
    versions = record.environment.get("versions", {})
    parts = [f"{record.environment.get('world_size', 'unknown number of')} ranks"]
    parts += [str(device.get("name") or device.get("type"))] if device else []
    parts += [f"{name} {versions[name]}" for name in ("torch", "pal_ds") if name in versions]
    commit = record.environment.get("commit")
    return ", ".join(parts + ([f"commit {str(commit)[:12]}"] if commit else []))


def _figures(record: RunRecord | None) -> Iterable[str]:
    if record is None:
        return []
    if record.validated is None:
        return [
            "## Held-out figures",
            "The run had no validation: nothing shows whether it learned anything.",
        ]
    controls = [figure for figure in record.figures if figure.untrained is not None]
    text = (
        f"On the `val` split at step {record.validated:,}, beside the same network before training (step 0) and a "
        "blind guess. A figure means something only where it is better than both."
    )
    if not controls:
        text = (
            f"On the `val` split at step {record.validated:,}. There was no validation at step 0, so these figures "
            "have no control."
        )
    rows = [_figure_row(figure) for figure in record.figures]
    return ["## Held-out figures", text, _table(("figure", "trained", "untrained", "a blind guess"), rows)]


def _figure_row(figure: Figure) -> tuple[str, ...]:
    spread = f" ± {figure.error:.2g}" if figure.error is not None else ""
    shown = ["-" if value is None else f"{value:.4g}" for value in (figure.untrained, figure.chance)]
    return (f"`{figure.name}`", f"{figure.value:.4g}{spread}", *shown)


def _licence(license_id: str) -> str:
    text = f"`{license_id}`."
    if license_id == UNKNOWN:
        text = "Not stated. The terms of the training videos may limit what the weights may be used for."
    return f"## Licence\n\n{text}"


def _loading(spec: BackboneSpec) -> str:
    return f"""## How to load it

With pal-ds (`pip install pal-ds`; nothing of its training code is loaded):

```python
from pal_ds.transfer.backbone_export import load_backbone

backbone, spec = load_backbone("THIS_FOLDER")   # a path, or a URL such as s3://…
features = backbone(clips)                      # [B, 3, {spec.clip_frames}, {spec.size}, {spec.size}] -> \
[B, {spec.feature_dim}]
```

The weights and what they need to know, without it:

```python
import json
from safetensors.torch import load_file

config, tensors = json.load(open("config.json")), load_file("model.safetensors")
```

Features of videos:

```
pal-extract --checkpoint THIS_FOLDER --videos videos/ --out features/ --stride-seconds 0.25
```

As the backbone of OpenTAD: `pal-pretrain export THIS_FOLDER --opentad DIR`."""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
