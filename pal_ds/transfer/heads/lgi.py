"""LGI: local-global video-text interactions for grounding (Mun et al., CVPR 2020).

A sentence is read as a few semantic phrases; each modulates the video's segments, is seen in its local context,
and the phrases' views are merged, related over the whole video and regressed to one span. Layer names are those
of the public release, so that its weights load.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pal_ds.config.base import check, option
from pal_ds.config.heads import HeadConfig
from pal_ds.transfer.heads.lgi_layers import (
    AttentivePooling,
    HadamardProduct,
    NonLocalBlock,
    ResidualBlock,
    WordAttention,
)


@dataclass(frozen=True, kw_only=True)
class GroundingOutput:
    """What LGI says about a batch.

    Attributes:
        span_b2: start and end as shares of the video, not negative, not ordered by construction [B, 2].
        segment_weight_bt: temporal attention [B, T], sums to 1 over the segments that exist.
        word_weight_bnl: attention of each phrase over the words [B, N, L].
    """

    span_b2: Tensor
    segment_weight_bt: Tensor
    word_weight_bnl: Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class LgiConfig(HeadConfig):
    """Options of LGI."""

    name: str = option("lgi", "lgi")
    hidden: int = option(512, "channels throughout")
    word_dim: int = option(300, "channels of the word vectors")
    words: int = option(10, "words of a sentence that are read")
    phrases: int = option(3, "semantic phrases")
    kernel: int = option(15, "temporal size of the local context block, odd")
    dropout: float = option(0.5, "dropout of words, LSTM and segment embeddings")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("word_dim", "words", "phrases"):
            check(getattr(self, name) >= 1, f"head.{name}", getattr(self, name), "use at least 1")
        check(self.hidden % 8 == 0, "head.hidden", self.hidden, "use a multiple of 8 (heads, directions)")
        check(self.kernel % 2 == 1, "head.kernel", self.kernel, "use an odd number")
        check(0 <= self.dropout < 1, "head.dropout", self.dropout, "use a share in [0, 1)")

    def network(self, vocabulary: int, feature_dim: int) -> LGI:
        """Make the network for so many words and features of ``feature_dim`` channels."""
        return LGI(
            vocabulary,
            feature_dim,
            segments=self.snippets,
            hidden=self.hidden,
            word_dim=self.word_dim,
            phrases=self.phrases,
            kernel=self.kernel,
            dropout=self.dropout,
        )


class LGI(nn.Module):
    """Regresses the span that a sentence describes.

    Args:
        vocabulary: number of words, padding (0) included.
        feature_dim: channels of the video features; 1024 for I3D.
        segments: T, the most segments a video has.
        hidden: channels throughout (512 in the paper), a multiple of ``2 * heads``.
        word_dim: channels of the word vectors, learned.
        phrases: N, semantic phrases read from a sentence.
        kernel: temporal size of the local context block.
        blocks: non-local blocks.
        heads: heads of each.
        attention: hidden channels of the attentions.
        dropout: of words, LSTM layers and segment embeddings.
    """

    def __init__(
        self,
        vocabulary: int,
        feature_dim: int = 1024,
        *,
        segments: int = 128,
        hidden: int = 512,
        word_dim: int = 300,
        phrases: int = 3,
        kernel: int = 15,
        blocks: int = 2,
        heads: int = 4,
        attention: int = 256,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.query_enc = QueryEncoder(vocabulary, word_dim, hidden // 2, dropout)
        self.video_enc = VideoEncoder(feature_dim, hidden, segments, dropout)
        self.sqan = PhraseReader(hidden, phrases, attention)
        self.vti_fn = Interactions(hidden, phrases, kernel, blocks, heads, attention)
        self.ta_reg_fn = SpanRegressor(hidden, attention)

    def forward(self, x_btc: Tensor, exists_bt: Tensor, words_bl: Tensor) -> GroundingOutput:
        """Ground one sentence in each video.

        Args:
            x_btc: features [B, T, C].
            exists_bt: True for segments that exist, False for padding [B, T].
            words_bl: word numbers, 0 after the last; at least one word [B, L].
        """
        words, sentence = self.query_enc(words_bl)
        phrases, word_weight = self.sqan(sentence, words, words_bl > 0)
        segments = self.vti_fn(self.video_enc(x_btc, exists_bt), exists_bt, phrases)
        span, segment_weight = self.ta_reg_fn(segments, exists_bt)
        return GroundingOutput(span_b2=span, segment_weight_bt=segment_weight, word_weight_bnl=word_weight)


class QueryEncoder(nn.Module):
    """Word vectors and a bidirectional LSTM: features of the words, and of the sentence (section 3.2)."""

    def __init__(self, vocabulary: int, word_dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, word_dim)
        self.rnn = nn.LSTM(word_dim, hidden, 2, batch_first=True, dropout=dropout, bidirectional=True)

    def forward(self, words_bl: Tensor) -> tuple[Tensor, Tensor]:
        """Encode [B, L] words; give word features [B, L, 2H] and the sentence's [B, 2H]."""
        length_b = (words_bl > 0).sum(dim=1)
        packed = pack_padded_sequence(
            self.embedding(words_bl), length_b.cpu(), batch_first=True, enforce_sorted=False
        )
        output, _ = self.rnn(packed)
        words, _ = pad_packed_sequence(output, batch_first=True, total_length=words_bl.shape[1])
        forward, backward = words.chunk(2, dim=2)
        last = forward[torch.arange(len(words), device=words.device), length_b - 1]
        return words, torch.cat([last, backward[:, 0]], dim=1)


class VideoEncoder(nn.Module):
    """Segment embedding plus a learned embedding of the position (section 3.2)."""

    def __init__(self, feature_dim: int, hidden: int, segments: int, dropout: float) -> None:
        super().__init__()
        self.vid_emb_fn = nn.Sequential(nn.Linear(feature_dim, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.pos_emb_fn = nn.Sequential(nn.Embedding(segments, hidden), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, x_btc: Tensor, exists_bt: Tensor) -> Tensor:
        """Embed segments [B, T, H]; padding is zero."""
        position = self.pos_emb_fn(torch.arange(x_btc.shape[1], device=x_btc.device))
        embedded: Tensor = (self.vid_emb_fn(x_btc) + position) * exists_bt.unsqueeze(2)
        return embedded


class PhraseReader(nn.Module):
    """Sequential query attention: phrases read one after the other (section 3.3, Eq. 4 to 7)."""

    def __init__(self, hidden: int, phrases: int, attention: int) -> None:
        super().__init__()
        self.global_emb_fn = nn.ModuleList([nn.Linear(hidden, hidden) for _ in range(phrases)])
        self.guide_emb_fn = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU())
        self.att_fn = WordAttention(hidden, attention)

    def forward(self, sentence_bh: Tensor, words_blh: Tensor, exists_bl: Tensor) -> tuple[Tensor, Tensor]:
        """Read phrases [B, N, H] and their weights over the words [B, N, L]."""
        phrase = torch.zeros_like(sentence_bh)
        phrases, weights = [], []
        for embed in self.global_emb_fn:
            guide = self.guide_emb_fn(torch.cat([embed(sentence_bh), phrase], dim=1))
            phrase, weight = self.att_fn(guide, words_blh, exists_bl)
            phrases.append(phrase)
            weights.append(weight)
        return torch.stack(phrases, dim=1), torch.stack(weights, dim=1)


class Interactions(nn.Module):
    """Fusion of each phrase with the segments, local context, and global relations (section 3.4)."""

    def __init__(
        self, hidden: int, phrases: int, kernel: int, blocks: int, heads: int, attention: int
    ) -> None:
        super().__init__()
        self.fusion_fn = nn.ModuleList([HadamardProduct(hidden) for _ in range(phrases)])
        self.local_fn = nn.ModuleList([ResidualBlock(hidden, kernel) for _ in range(phrases)])
        self.satt_fn = AttentivePooling(hidden, attention)
        self.global_fn = nn.ModuleList([NonLocalBlock(hidden, heads) for _ in range(blocks)])

    def forward(self, x_bth: Tensor, exists_bt: Tensor, phrases_bnh: Tensor) -> Tensor:
        """Give semantics-aware segment features [B, T, H]."""
        views = []
        for number, (fuse, local) in enumerate(zip(self.fusion_fn, self.local_fn, strict=True)):
            views.append(local(fuse(x_bth, phrases_bnh[:, number : number + 1])))
        # Only the weights of this pooling are used; its output layer is a part of the released weights.
        _, weight_bn = self.satt_fn(phrases_bnh)
        merged = torch.einsum("bn,nbth->bth", weight_bn, torch.stack(views))
        for block in self.global_fn:
            merged = block(merged, exists_bt)
        return merged


class SpanRegressor(nn.Module):
    """Temporal attention over the segments, then the span (section 3.5, Eq. 13 to 15; ReLU as for Charades)."""

    def __init__(self, hidden: int, attention: int) -> None:
        super().__init__()
        self.tatt = AttentivePooling(hidden, attention)
        regress = nn.Linear(hidden, 2)
        # The last ReLU passes no gradient where both outputs start below zero, as they do for some seeds: the
        # span would then never be learned. Starting in the middle half of the video keeps it alive.
        regress.bias.data.copy_(torch.tensor([0.25, 0.75]))
        self.MLP_reg = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), regress, nn.ReLU())

    def forward(self, x_bth: Tensor, exists_bt: Tensor) -> tuple[Tensor, Tensor]:
        """Give spans [B, 2] and the attention [B, T]."""
        summary, weight = self.tatt(x_bth, exists_bt)
        return self.MLP_reg(summary), weight
