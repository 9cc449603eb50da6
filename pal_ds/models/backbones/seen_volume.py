"""The feature volume of clips as the network sees them: of their differences, where it sees differences."""

from __future__ import annotations

from torch import Tensor

from pal_ds.models.backbones.common import Backbone, frame_differences


def seen_volume(backbone: Backbone, clips_bcthw: Tensor) -> Tensor:
    """Return ``backbone.volume`` of what ``forward`` would encode, [B, C, T', H', W'].

    :class:`Backbone` takes differences in ``forward``; a class with a ``forward`` of its own takes them in ``volume``
    too.
    """
    if backbone.differences and type(backbone).forward is Backbone.forward:
        clips_bcthw = frame_differences(clips_bcthw)
    return backbone.volume(clips_bcthw)
