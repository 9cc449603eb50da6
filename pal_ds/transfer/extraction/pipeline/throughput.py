"""Where the time of an extraction goes: decoding, encoding, waiting."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any


class Throughput:
    """Times of one rank; safe to call from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = time.perf_counter()
        self._ended: float | None = None
        self._decode = self._encode = self._wait = 0.0
        self._decoders = 0

    def decoded(self, seconds: float) -> None:
        """Count a decoding thread's time: opening, reading, decoding, resizing."""
        with self._lock:
            self._decode += seconds

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the block's time as the encoder's wait for clips."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._wait += time.perf_counter() - begun

    def encoded(self, seconds: float) -> None:
        """Count the encoder's time for a batch."""
        self._encode += seconds

    def begin(self, decoders: int) -> None:
        """Start the clock with so many decoding threads."""
        self._decoders = decoders
        self._begun = time.perf_counter()

    def end(self) -> None:
        """Stop the clock."""
        self._ended = time.perf_counter()

    def figures(self, clips: int) -> RankFigures:
        """Return what was measured so far."""
        with self._lock:
            seconds = (self._ended or time.perf_counter()) - self._begun
            return RankFigures(
                clips=clips,
                seconds=seconds,
                decode=self._decode,
                encode=self._encode,
                wait=self._wait,
                decoders=self._decoders,
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankFigures:
    """One rank's times.

    Attributes:
        clips: clips encoded.
        seconds: from the first video's opening to the last file.
        decode: seconds that its decoding threads worked, added up.
        encode: seconds that its encoder worked.
        wait: seconds that its encoder waited for clips.
        decoders: decoding threads.
    """

    clips: int
    seconds: float
    decode: float
    encode: float
    wait: float
    decoders: int


def summary(ranks: Sequence[RankFigures]) -> dict[str, Any]:
    """Return the figures of all ranks together.

    Returns:
        ``clips_per_second`` of all ranks (clips by the slowest one's time), and shares of the ranks' time:
        ``encode_share`` that encoders worked, ``wait_share`` that they waited for clips, ``decode_share`` that
        decoding threads worked (of the time of all of them).
    """
    busy = [rank for rank in ranks if rank.clips]
    slowest = max((rank.seconds for rank in busy), default=0.0)
    seconds = sum(rank.seconds for rank in busy)
    threads = sum(rank.seconds * rank.decoders for rank in busy)

    def share(part: float, whole: float) -> float:
        return round(part / whole, 4) if whole else 0.0

    return {
        "clips_per_second": round(sum(rank.clips for rank in busy) / slowest, 3) if slowest else 0.0,
        "encode_share": share(sum(rank.encode for rank in busy), seconds),
        "decode_share": share(sum(rank.decode for rank in busy), threads),
        "wait_share": share(sum(rank.wait for rank in busy), seconds),
    }


def sentence(found: dict[str, Any]) -> str:
    """Return :func:`summary` as a line for people, with what to turn where one side waits for the other."""
    text = (
        f"{found['clips_per_second']:.1f} clips/s: encoder busy {100 * found['encode_share']:.0f} % of the time, "
        f"waiting for clips {100 * found['wait_share']:.0f} %; "
        f"decoding threads busy {100 * found['decode_share']:.0f} %"
    )
    if found["wait_share"] > 0.2 and found["decode_share"] > 0.8:
        text += " (decoding is the limit: more --workers or --threads, or smaller videos)"
    return text
