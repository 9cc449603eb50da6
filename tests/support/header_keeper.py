"""A proxy in front of a real S3 server that keeps what clients asked for."""

from __future__ import annotations

from tests.support.faulty_s3 import Faults, FaultyS3


class HeaderKeeper(FaultyS3):
    """Passes everything on; ``heads`` holds the request lines and headers of all requests, in lower case."""

    def __init__(self, port: int) -> None:
        self.heads: list[bytes] = []
        super().__init__(port, Faults())

    def _fate(self, head: bytes) -> str:
        self.heads.append(head.lower())
        return super()._fate(head)
