"""Draws the Pareto measurement: one panel for each kind of footage, one line for each family of variants."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks.sharding.variants import DEFAULT


def plot(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw bytes against milliseconds; colour is the picture's quality, a ring the front, a star the default."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(results), figsize=(6.4 * len(results), 6), squeeze=False, layout="constrained"
    )
    points: Any = None
    for axis, (kind, rows) in zip(axes[0], results.items(), strict=True):
        low = min(float(row["ssim"]) for row in rows)
        for family in dict.fromkeys(row["family"] for row in rows):
            line = [row for row in rows if row["family"] == family]
            x = [row["kilobytes"] for row in line]
            y = [row["decode_ms"] for row in line]
            axis.plot(x, y, color="0.8", linewidth=1, zorder=1)
            anchor = max(line, key=lambda row: float(row["kilobytes"]))
            axis.annotate(
                family,
                (anchor["kilobytes"], anchor["decode_ms"]),
                xytext=(5, 3),
                textcoords="offset points",
                fontsize=7,
                weight="bold" if family == DEFAULT else "normal",
            )
        for marker, size, chosen in (
            ("o", 34, [row for row in rows if row["variant"] != DEFAULT]),
            ("*", 260, [row for row in rows if row["variant"] == DEFAULT]),
        ):
            points = axis.scatter(
                [row["kilobytes"] for row in chosen],
                [row["decode_ms"] for row in chosen],
                c=[row["ssim"] for row in chosen],
                edgecolors=["black" if row["on_front"] else "none" for row in chosen],
                marker=marker,
                s=size,
                cmap="viridis",
                vmin=max(0.8, low),
                vmax=1.0,
                zorder=2,
            )
        axis.set(
            title=kind, xscale="log", yscale="log", xlabel="kB a clip", ylabel="decode of one sample, CPU ms"
        )
        axis.grid(visible=True, which="both", color="0.93")
    figure.colorbar(points, ax=axes[0].tolist(), label="SSIM with the source at short side 128", shrink=0.8)
    figure.suptitle(
        "star: the default profile; black ring: on the front of bytes, time and picture", fontsize=10
    )
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    import json

    plot(json.loads(Path(sys.argv[1]).read_text())["results"], Path(sys.argv[2]))
