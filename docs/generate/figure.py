"""Make the figure of the README: synthetic pairs of rendered videos, drawn from a real shard set.

    python -m docs.generate.figure --work DIR

DIR keeps the rendered videos and the shard set (7 MB). It takes about two minutes on two cores.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
FIGURE = ROOT / "docs" / "images" / "synthetic_pairs.png"


def main() -> None:
    """Render videos, pack them, and draw the first two pairs of epoch 0 with seed 3."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for videos and shards")
    work = parser.parse_args().work
    corpus, shards, drawn = work / "mocap", work / "shards", work / "pairs.png"
    if not corpus.exists():
        _run("-m", "corpora.mocap", "--size", "tiny", "--out", str(corpus), "--only", "trimmed", "--no-page")
    _run("-m", "shards.cli", "build", str(corpus / "trimmed"), str(shards))
    _run(
        *("benchmarks/streaming/film_strips.py", str(shards)),
        *("--pairs", "2", "--out", str(drawn), "run.seed=3"),
    )
    # 128 colours are a fifth of the bytes, and nobody sees the difference.
    picture = Image.open(io.BytesIO(drawn.read_bytes())).convert("RGB")
    picture.quantize(128).save(FIGURE, optimize=True)
    sys.stdout.write(f"{FIGURE}: {FIGURE.stat().st_size} bytes\n")


def _run(*words: str) -> None:
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
