import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pal_ds.transfer.heads.bmn import BMN
from pal_ds.transfer.heads.boundary_loss import balanced_log_loss, map_loss, overlap_loss
from pal_ds.transfer.heads.boundary_map import MapTargets, cell_segments, make_targets, valid_cells
from pal_ds.transfer.heads.gtad import GTAD, align_positions, gather_neighbours, nearest
from pal_ds.transfer.heads.lgi import LGI
from pal_ds.transfer.heads.lgi_loss import attention_guidance, distinct_attention, grounding_loss
from pal_ds.transfer.tasks.soft_nms import soft_nms

# Tensors of the public releases (optimised parameters only): name, shape.
BMN_RELEASE = {
    "x_1d_b.0": (256, 100, 3),
    "x_1d_b.2": (256, 64, 3),
    "x_1d_s.0": (256, 64, 3),
    "x_1d_s.2": (1, 256, 1),
    "x_1d_e.0": (256, 64, 3),
    "x_1d_e.2": (1, 256, 1),
    "x_1d_p.0": (256, 256, 3),
    "x_3d_p.0": (512, 256, 32, 1, 1),
    "x_2d_p.0": (128, 512, 1, 1),
    "x_2d_p.2": (128, 128, 3, 3),
    "x_2d_p.4": (128, 128, 3, 3),
    "x_2d_p.6": (2, 128, 1, 1),
}
GCNEXT = {
    "tconvs.0": (128, 256, 1),
    "tconvs.2": (128, 4, 3),
    "tconvs.4": (256, 128, 1),
    "sconvs.0": (128, 512, 1, 1),
    "sconvs.2": (128, 4, 1, 1),
    "sconvs.4": (256, 128, 1, 1),
}
GCNEXT_AT = ("backbone1.2", "regu_s.0", "regu_e.0", "backbone2.0")
GTAD_RELEASE = {
    "backbone1.0": (256, 100, 3),
    **{f"{place}.{name}": shape for place in GCNEXT_AT for name, shape in GCNEXT.items()},
    "regu_s.1": (1, 256, 1),
    "regu_e.1": (1, 256, 1),
    "localization.0": (512, 256 * 36, 1, 1),
    "localization.2": (128, 512, 1, 1),
    "localization.4": (128, 128, 3, 3),
    "localization.6": (128, 128, 3, 3),
    "localization.8": (2, 128, 1, 1),
}


def with_biases(weights):
    shapes = {}
    for name, shape in weights.items():
        shapes[f"{name}.weight"] = shape
        shapes[f"{name}.bias"] = shape[:1]
    return shapes


def shapes_of(model):
    return {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}


@pytest.mark.parametrize(("head", "release"), [(BMN, BMN_RELEASE), (GTAD, GTAD_RELEASE)])
def test_layers_are_those_of_the_release(head, release):
    model = head(400)
    assert shapes_of(model) == with_biases(release)
    assert set(model.state_dict()) == set(shapes_of(model))


def test_gtad_has_the_parameter_count_its_release_states():
    # The release's own summary (400 channels, 32 context bins) says 9,495,428.
    assert sum(p.numel() for p in GTAD(400, context_bins=32).parameters()) == 9_495_428


def test_lgi_layers_are_those_of_the_release():
    words = 1140
    shapes = shapes_of(LGI(words))
    expected = {
        "query_enc.embedding.weight": (words, 300),
        "video_enc.vid_emb_fn.0.weight": (512, 1024),
        "video_enc.pos_emb_fn.0.weight": (128, 512),
        "sqan.guide_emb_fn.0.weight": (512, 1024),
        "sqan.att_fn.key2att.weight": (256, 512),
        "sqan.att_fn.feat2att.weight": (256, 512),
        "sqan.att_fn.to_alpha.weight": (1, 256),
        "vti_fn.satt_fn.feat2att.weight": (256, 512),
        "vti_fn.satt_fn.to_alpha.weight": (1, 256),
        "vti_fn.satt_fn.fc.weight": (512, 512),
        "ta_reg_fn.tatt.feat2att.weight": (256, 512),
        "ta_reg_fn.tatt.to_alpha.weight": (1, 256),
        "ta_reg_fn.tatt.fc.weight": (512, 512),
        "ta_reg_fn.MLP_reg.0.weight": (512, 512),
        "ta_reg_fn.MLP_reg.2.weight": (2, 512),
    }
    for layer, width in ((0, 300), (1, 512)):
        for suffix in ("", "_reverse"):
            expected[f"query_enc.rnn.weight_ih_l{layer}{suffix}"] = (1024, width)
            expected[f"query_enc.rnn.weight_hh_l{layer}{suffix}"] = (1024, 256)
            expected[f"query_enc.rnn.bias_ih_l{layer}{suffix}"] = (1024,)
            expected[f"query_enc.rnn.bias_hh_l{layer}{suffix}"] = (1024,)
    for n in range(3):
        expected[f"sqan.global_emb_fn.{n}.weight"] = (512, 512)
        for fc in ("fc_1", "fc_2", "fc_3"):
            expected[f"vti_fn.fusion_fn.{n}.{fc}.weight"] = (512, 512)
        for conv, norm in ((0, 1), (3, 4)):
            expected[f"vti_fn.local_fn.{n}.blocks.0.{conv}.weight"] = (512, 512, 15)
            expected[f"vti_fn.local_fn.{n}.blocks.0.{norm}.weight"] = (512,)
    for n in range(2):
        expected[f"vti_fn.global_fn.{n}.c_lin.weight"] = (1024, 512)
        expected[f"vti_fn.global_fn.{n}.v_lin.weight"] = (512, 512)
    weights = {name: shape for name, shape in shapes.items() if not name.endswith(".bias")}
    assert weights == expected
    assert sum(math.prod(shape) for shape in shapes.values()) == 33_818_355


def test_bmn_equals_sampling_first_and_convolving_then():
    torch.manual_seed(0)
    model = BMN(8, snippets=12, durations=9, hidden_1d=8, hidden_2d=4, hidden_3d=6, samples=5)
    x = torch.randn(2, 8, 12)
    maps = model(x)[0]
    hidden = model.x_1d_p(model.x_1d_b(x))
    sampled = torch.zeros(2, 8, 5, 9, 12)
    for d in range(9):
        for s in range(12):
            if s + d >= 12:
                continue
            first, last = s - 0.5 * (d + 1), s + d + 0.5 * (d + 1)
            for n in range(5):
                for k in range(3):
                    place = first + (last - first) * (3 * n + k) / 14
                    if -1 < place < 0:
                        place = 0.0
                    low = math.floor(place)
                    for at, weight in ((low, 1 - (place - low)), (low + 1, place - low)):
                        if 0 <= at < 12:
                            sampled[:, :, n, d, s] += hidden[:, :, at] * weight / 3
    expected = model.x_2d_p(model.x_3d_p(sampled).squeeze(2))
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("inner", "context_bins"), [(32, 4), (16, 16)])
def test_gtad_equals_aligning_first_and_projecting_then(inner, context_bins):
    torch.manual_seed(0)
    sizes = {"hidden_1d": 8, "hidden_2d": 4, "hidden_3d": 6, "groups": 2}
    model = GTAD(8, snippets=10, durations=10, inner_bins=inner, context_bins=context_bins, **sizes)
    x = torch.randn(2, 8, 10)
    maps = model(x)[0]
    graph = model.backbone2(model.backbone1(x))
    context = gather_neighbours(graph, nearest(graph, 3)).mean(dim=3)

    def align(sequence, start, end, bins):
        extent = max(end - start, 1.0)
        parts = math.ceil(extent / bins)
        columns = []
        for number in range(bins):
            total = torch.zeros(2, 8)
            for part in range(parts):
                place = start + extent / bins * (number + (part + 0.5) / parts)
                if place < -1 or place > 10:
                    continue
                place = min(max(place, 0.0), 9.0)
                low = math.floor(place)
                high = min(low + 1, 9)
                total += (1 - (place - low)) * sequence[:, :, low] + (place - low) * sequence[:, :, high]
            columns.append(total / parts)
        return torch.stack(columns, dim=2)

    aligned = torch.zeros(2, 8 * (inner + context_bins), 10, 10)
    for d in range(10):
        for s in range(10):
            inside = s + d < 10
            start, end = (s - 0.5 * (d + 1), s + d + 0.5 * (d + 1)) if inside else (0.0, 0.0)
            both = [align(graph, start, end, inner), align(context, start, end, context_bins)]
            aligned[:, :, d, s] = torch.cat(both, dim=2).flatten(1)
    torch.testing.assert_close(maps, model.localization(aligned), atol=1e-5, rtol=1e-4)


def test_sampling_has_the_right_gradient():
    torch.manual_seed(0)
    model = BMN(4, snippets=5, durations=4, hidden_1d=4, hidden_2d=2, hidden_3d=3, samples=3).matching
    x = torch.randn(2, 4, 5, requires_grad=True)
    weight = torch.randn(3, 4, 3, requires_grad=True)
    probe = torch.randn(2, 3, 4, 5)
    (model(x, weight) * probe).sum().backward()
    for tensor, other in ((x, lambda t: model(t, weight)), (weight, lambda t: model(x, t))):
        step = torch.randn_like(tensor)
        # The map is linear in each, so a finite difference is exact up to rounding.
        moved = ((other(tensor.detach() + step) - other(tensor.detach())) * probe).sum()
        assert float((tensor.grad * step).sum().detach()) == pytest.approx(
            float(moved.detach()), rel=1e-3, abs=1e-3
        )


def test_alignment_of_a_whole_sequence_is_its_mean():
    positions, cell = align_positions(8, 8, 4)
    assert cell[7, 0] == 35
    assert np.isnan(positions).any()
    assert cell[7, 1] == 36 == len(positions) - 1


def test_targets_by_hand():
    targets = make_targets(np.array([[0.25, 0.75]]), 4, 4)
    # Cell (1, 1) is [0.25, 0.75] itself; (0, 1) is [0.25, 0.5], half of it; (3, 0) is the whole.
    assert targets.iou_dt[1, 1] == 1.0
    assert targets.iou_dt[0, 1] == 0.5
    assert targets.iou_dt[3, 0] == 0.5
    assert targets.iou_dt[1, 3] == 0.0
    # The start at snippet 1: its zone is [-0.5, 2.5], units 0, 1 and 2 lie wholly inside.
    assert targets.start_t.tolist() == [1.0, 1.0, 1.0, 0.0]
    assert targets.end_t.tolist() == [0.0, 0.0, 1.0, 1.0]
    assert make_targets(np.zeros((0, 2)), 4, 4).iou_dt.sum() == 0


def test_cells():
    assert valid_cells(3, 4).sum(axis=1).tolist() == [4, 3, 2]
    assert cell_segments(3, 4)[2, 1].tolist() == [0.25, 1.0]


def test_balanced_log_loss_by_hand():
    # One positive of four: ratio 4, weights 2 and 2/3.
    probability = torch.tensor([0.5, 0.5, 0.5, 0.5])
    positive = torch.tensor([True, False, False, False])
    assert float(balanced_log_loss(probability, positive)) == pytest.approx(math.log(2), abs=1e-5)
    probability = torch.tensor([0.8, 0.1, 0.1, 0.4])
    by_hand = -(2 * math.log(0.8) + 2 / 3 * (2 * math.log(0.9) + math.log(0.6))) / 4
    assert float(balanced_log_loss(probability, positive)) == pytest.approx(by_hand, abs=1e-5)
    for same in (True, False):
        assert torch.isfinite(balanced_log_loss(probability, torch.full((4,), same)))


def test_overlap_loss_by_hand():
    # One high, one middle, one low: every one is drawn, so the mean of the three squares, halved.
    overlap = torch.tensor([[[0.8, 0.5], [0.2, 0.0]]])
    predicted = torch.tensor([[[0.6, 0.5], [0.6, 0.9]]])
    loss = overlap_loss(predicted, overlap, torch.ones(2, 2), generator=torch.Generator().manual_seed(0))
    assert float(loss) == pytest.approx(0.5 * (0.04 + 0.0 + 0.16) / 3)
    assert float(overlap_loss(predicted, torch.zeros(1, 2, 2), torch.ones(2, 2))) == 0.0


def test_map_loss_leaves_void_cells_out():
    targets = make_targets(np.array([[0.0, 0.5]]), 4, 4)
    batch = MapTargets(start_t=targets.start_t[None], end_t=targets.end_t[None], iou_dt=targets.iou_dt[None])
    valid = torch.from_numpy(valid_cells(4, 4).astype(np.float32))
    maps = torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    start, end = torch.full((1, 4), 0.5), torch.full((1, 4), 0.5)
    parts = [
        map_loss(shown, start, end, batch, valid, generator=torch.Generator().manual_seed(1))
        for shown in (maps, torch.where(valid.bool(), maps, 0.123))
    ]
    assert float(parts[0].total) == float(parts[1].total)
    total = parts[0].boundary + 10 * parts[0].overlap + parts[0].match
    assert float(parts[0].total) == pytest.approx(float(total))
    assert float(parts[0].boundary) == pytest.approx(2 * math.log(2), abs=1e-4)


def test_grounding_losses_by_hand():
    weight = torch.tensor([[0.5, 0.25, 0.25]])
    inside = torch.tensor([[True, True, False]])
    assert float(attention_guidance(weight, inside)) == pytest.approx((math.log(2) + math.log(4)) / 2)
    # Two phrases that read the same word: A Aᵀ is all ones; minus 0.3 I: 2 × 0.7² + 2 × 1.
    same = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    assert float(distinct_attention(same, 0.3)) == pytest.approx(2.98)
    apart = torch.eye(2)[None]
    assert float(distinct_attention(apart, 1.0)) == 0.0
    model = LGI(9, 6, segments=5, hidden=8, word_dim=4, attention=4, heads=2).eval()
    with torch.no_grad():
        output = model(torch.randn(1, 5, 6), torch.ones(1, 5, dtype=torch.bool), torch.tensor([[1, 2]]))
    target = torch.tensor([[0.2, 0.6]])
    loss = grounding_loss(output, target, torch.tensor([[True, False, False, False, False]]))
    span = F.smooth_l1_loss(output.span_b2, target, reduction="sum")
    assert float(loss.span) == pytest.approx(float(span), rel=1e-5)
    assert float(loss.total) == pytest.approx(float(loss.span + loss.attention + loss.distinct), rel=1e-6)


def test_lgi_pays_no_attention_to_padding():
    torch.manual_seed(0)
    model = LGI(9, 6, segments=8, hidden=8, word_dim=4, attention=4, heads=2, kernel=1).eval()
    x = torch.randn(1, 8, 6)
    exists = torch.tensor([[True] * 5 + [False] * 3])
    words = torch.tensor([[3, 4, 0, 0]])
    other = torch.where(exists.unsqueeze(2), x, 100.0)
    first, second = model(x, exists, words), model(other, exists, words)
    torch.testing.assert_close(first.span_b2, second.span_b2)
    assert first.segment_weight_bt[0, 5:].abs().max() == 0
    assert first.word_weight_bnl[0, :, 2:].abs().max() == 0
    torch.testing.assert_close(first.span_b2, model(x, exists, words[:, :2]).span_b2)


def plain_soft_nms(segments, scores, sigma, keep, low, high):
    left = [[s, e, score] for (s, e), score in zip(segments.tolist(), scores.tolist(), strict=True)]
    taken = []
    while left and len(taken) < keep:
        best = max(left, key=lambda row: row[2])
        left.remove(best)
        taken.append(best)
        for row in left:
            shared = max(0.0, min(best[1], row[1]) - max(best[0], row[0]))
            union = best[1] - best[0] + row[1] - row[0] - shared
            if union > 0 and shared / union > low + (high - low) * (best[1] - best[0]):
                row[2] *= math.exp(-((shared / union) ** 2) / sigma)
    return taken


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (0.5, 0.9)])
def test_soft_nms_equals_the_plain_loop(low, high):
    draw = np.random.default_rng(0)
    segments = np.sort(draw.random((60, 2)), axis=1)
    scores = draw.random(60)
    kept, lowered = soft_nms(segments, scores, sigma=0.4, keep=30, low=low, high=high)
    expected = plain_soft_nms(segments, scores, 0.4, 30, low, high)
    np.testing.assert_allclose(np.column_stack([kept, lowered]), expected)
    assert (np.diff(lowered) <= 1e-12).all()
    assert len(soft_nms(segments[:0], scores[:0], sigma=0.4, keep=5)[0]) == 0
