"""Which annotated videos have no features, and which features belong to no annotated video."""

from __future__ import annotations

import dataclasses

from pal_ds import storage
from pal_ds.formats.feature_folder import FeatureError
from pal_ds.transfer.datasets.detection import read_named

_SHOWN = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coverage:
    """Annotations and features side by side; ids are sorted and without ``v_``.

    Attributes:
        annotated: number of annotated videos of the subset.
        features: number of videos with finished features.
        without_features: annotated videos that have none.
        without_annotations: videos with features that the file doesn't list, in whatever subset.
        unfinished: videos of which only the array or only the sidecar is there.
    """

    annotated: int
    features: int
    without_features: tuple[str, ...]
    without_annotations: tuple[str, ...]
    unfinished: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing is missing on either side."""
        return not (self.without_features or self.without_annotations or self.unfinished)

    def to_json(self) -> dict[str, object]:
        """Give the object that ``--json`` prints."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    def table(self) -> str:
        """Numbers and the first ids, for people."""
        lines = [f"{self.annotated} annotated videos, {self.features} with features"]
        for text, ids in (
            ("annotated, without features", self.without_features),
            ("features without annotations", self.without_annotations),
            ("unfinished (array or sidecar is missing)", self.unfinished),
        ):
            lines.append(f"{text}: {len(ids)}")
            lines += [f"  {video}" for video in ids[:_SHOWN]]
            if len(ids) > _SHOWN:
                lines.append(f"  … and {len(ids) - _SHOWN} more (--json lists all)")
        return "\n".join(lines)


def coverage(annotations: str, features: str, *, subset: str = "all", dataset: str = "") -> Coverage:
    """Compare an annotation file with a folder of features.

    A video is annotated where it has at least one action; sets that list their test videos without any then don't
    ask for features of them.

    Args:
        annotations: path or URL.
        features: folder URL of ``v_<id>.npy`` and ``v_<id>.json``.
        subset: whose videos must have features.
        dataset: name of the benchmark; empty tells the form by the file's name.

    Raises:
        AnnotationError: a malformed file or no such subset.
        ConfigError: there is no such data set.
        FeatureError: the folder isn't there or holds no file of this form.
        StorageError: it can't be listed.
    """
    wanted = {video.video for video in read_named(dataset, annotations, subset) if video.segments}
    listed = {video.video for video in read_named(dataset, annotations, "all")}
    names = set(storage.list_names(features, retry=storage.AT_START))
    arrays, sidecars = (
        {
            name.removeprefix("v_").removesuffix(end)
            for name in names
            if name.startswith("v_") and name.endswith(end)
        }
        for end in (".npy", ".json")
    )
    if not arrays | sidecars:
        raise FeatureError(
            f"{storage.redact(features)}: holds no v_<id>.npy or v_<id>.json; give the folder that pal-extract wrote"
        )
    finished = arrays & sidecars
    return Coverage(
        annotated=len(wanted),
        features=len(finished),
        without_features=tuple(sorted(wanted - finished)),
        without_annotations=tuple(sorted(finished - listed)),
        unfinished=tuple(sorted(arrays ^ sidecars)),
    )
