"""Remote videos of which several clips are cut: fetched once for those that are near, and kept within bounds."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import errno
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

#: What kept films may take of the scratch disk, in bytes; those in use may take more.
FILM_BYTES = 8 << 30


@dataclasses.dataclass
class _Film:
    path: Path
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    users: int = 0
    size: int | None = None


class Films:
    """Fetched files by name, those used longest ago removed first; safe to use from every thread.

    Args:
        folder: where they lie; removed by whoever made it.
        limit_bytes: what those that nobody uses may take.
    """

    def __init__(self, folder: Path, limit_bytes: int = FILM_BYTES) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._films: collections.OrderedDict[str, _Film] = collections.OrderedDict()
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def open(self, name: str, fetch: Callable[[Path], None]) -> Iterator[Path]:
        """Give a film as a local file for as long as the block lasts.

        Args:
            name: of the film.
            fetch: writes it to a path; called by one of those that want it while the others wait, again where the
                disk was full and kept films could make room.
        """
        with self._lock:
            film = self._films.setdefault(name, _Film(self._folder / f"film-{next(self._numbers)}"))
            self._films.move_to_end(name)
            film.users += 1
        try:
            with film.lock:
                if film.size is None:
                    self._fetch(film, fetch)
                    film.size = film.path.stat().st_size
            yield film.path
        finally:
            with self._lock:
                film.users -= 1
                self._shrink(self._limit)

    def _fetch(self, film: _Film, fetch: Callable[[Path], None]) -> None:
        try:
            fetch(film.path)
        except OSError as error:
            film.path.unlink(missing_ok=True)
            if error.errno != errno.ENOSPC:
                raise
            with self._lock:
                self._shrink(0)
            fetch(film.path)

    def _shrink(self, limit: int) -> None:
        held = sum(film.size or 0 for film in self._films.values())
        for name, film in list(self._films.items()):
            if film.users == 0 and (held > limit or film.size is None):
                film.path.unlink(missing_ok=True)
                held -= film.size or 0
                del self._films[name]
