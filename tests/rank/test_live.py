"""Live figures against direct slow computations; batches that lose nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from toys import CLICKS, FRESH, QUALITY, lists, padded, task

from hyperdpo.control import scaled_scores
from hyperdpo.errors import DataError, WeightsError
from hyperdpo.rank import batches as batches_module
from hyperdpo.rank.batches import RankBatches, encode_in_chunks, list_targets
from hyperdpo.rank.live import KEPT_RESIDUALS, ListTable, LiveModel, base_front, front_ndcg, measure, measured_front
from hyperdpo.rank.model import PARAMETRISATIONS, NetConfig, Ranker
from hyperdpo.training import rng_for, seed_torch
from hyperdpo.weights import grid

SIZES = (5, 1, 3, 7, 2, 4, 7, 6)
BETA = (0.5, 0.5)


def table(rolled=None, beta=BETA, objectives=(CLICKS, QUALITY)) -> ListTable:
    rolled = lists(SIZES, informative=False) if rolled is None else rolled
    return ListTable(rolled, task(objectives), rolled.base, beta)


def live(parametrisation: str = "mixture") -> LiveModel:
    seed_torch(1)
    model = Ranker(4, 2, parametrisation, NetConfig(8, 1, 2), BETA)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(p))))
    t = table()
    return LiveModel(model, t, t.lists.features)


def slow_point(model: Ranker, t: ListTable, w: torch.Tensor, c: float, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean NDCG (main first) and cross-entropies, list by list, in plain python."""
    rolled = t.lists
    ndcgs: list[list[float]] = [[] for _ in range(3)]
    entropies: list[list[float]] = [[] for _ in range(2)]
    for q in range(len(rolled)):
        rows = slice(int(rolled.offsets[q]), int(rolled.offsets[q + 1]))
        n = rows.stop - rows.start
        base, mask = rolled.base[rows][None], torch.ones(1, n, dtype=torch.bool)
        with torch.no_grad():
            residual = model(rolled.features[rows][None], base, mask, w)[0] / c
        scores = (base[0] + residual).tolist()
        order = sorted(range(n), key=lambda i: -scores[i])
        for j in range(3):
            gains = rolled.labels[rows, j].tolist()
            best = sum(g / math.log2(r + 2) for r, g in enumerate(sorted(gains, reverse=True)[:k]))
            got = sum(gains[i] / math.log2(r + 2) for r, i in enumerate(order[:k]))
            if best > 0:
                ndcgs[j].append(got / best)
        for j, objective in enumerate((CLICKS, QUALITY)):
            target, informative = objective.targets(rolled.labels[rows, 1 + j][None], mask)
            if informative.item():
                log_q = torch.log_softmax(BETA[j] * residual, 0)
                entropies[j].append(-float((target[0] * log_q).sum()))
    return np.array([np.mean(v) for v in ndcgs]), np.array([np.mean(v) for v in entropies])


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
@pytest.mark.parametrize(("c", "k"), [(1.0, 10), (0.3, 3), (4.0, 1)])
def test_a_point_is_the_direct_slow_computation(parametrisation: str, c: float, k: int) -> None:
    model = live(parametrisation)
    for w in ([0.3, 0.7], [1.0, 0.0]):
        point = model.point(w, scale=c, k=k)
        ndcg, entropy = slow_point(model.model, model.table, torch.tensor(w), c, k)
        assert point.ndcg.tolist() == pytest.approx(ndcg.tolist(), abs=1e-5)
        assert point.cross_entropy.tolist() == pytest.approx(entropy.tolist(), abs=1e-5)
        assert (point.scale, point.k) == (c, k)
        assert point.weights == pytest.approx(tuple(w))
        assert point.per_query.shape == (8, 3)


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
def test_separable_and_forward_paths_agree(parametrisation: str) -> None:
    model = live(parametrisation)
    fast = model.residual([0.4, 0.6])
    features, base, mask = padded(model.table.lists)
    with torch.no_grad():
        direct = model.model(features, base, mask, torch.tensor([0.4, 0.6]))
    assert torch.allclose(fast, direct, atol=1e-5)
    for batch in model._batches.once():  # the path of the others, one forward pass a chunk
        with torch.no_grad():
            value = model.model(*batch.inputs, torch.tensor([0.4, 0.6]))
        assert torch.allclose(value, fast[batch.queries, : value.shape[1]], atol=1e-5)


def test_a_kept_residual_is_the_same_and_few_are_kept() -> None:
    model = live()
    first = model.residual([0.3, 0.7])
    assert model.residual([0.3, 0.7]) is first
    assert model.residual(torch.tensor([0.3, 0.7])) is first
    for i in range(3 * KEPT_RESIDUALS):
        model.residual([i / 100, 1 - i / 100])
    assert len(model._residuals) == KEPT_RESIDUALS
    assert torch.equal(model.residual([0.3, 0.7]), first)


def test_moving_c_never_asks_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = live("film")
    at_one = model.point([0.3, 0.7])
    monkeypatch.setattr(model, "_compute", lambda w: pytest.fail("the model was asked"))
    assert not np.allclose(model.point([0.3, 0.7], scale=0.1).cross_entropy, at_one.cross_entropy)


def test_a_separable_model_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = live(), []
    encode = model.model.encode
    monkeypatch.setattr(model.model, "encode", lambda *x: calls.append(1) or encode(*x))
    model.point([0.3, 0.7])
    before = len(calls)
    model.point([0.6, 0.4])
    model.grid_residuals(5)
    assert 1 <= before == len(calls)


def test_the_grid_is_every_residual_of_the_grid() -> None:
    model = live("film")
    for points in (5, 3):
        stacked = model.grid_residuals(points)
        assert stacked is model.grid_residuals(points)
        for w, residual in zip(grid(2, points), stacked, strict=True):
            assert torch.equal(residual, model.residual(w))


def test_a_large_c_is_the_base_and_a_front_is_its_points() -> None:
    model = live()
    t = model.table
    base = measure(t, torch.zeros_like(t.base))
    assert np.allclose(model.point([0.5, 0.5], scale=1e6).ndcg, base.ndcg)
    assert not np.allclose(model.point([0.5, 0.5]).ndcg, base.ndcg)
    per_query = front_ndcg(t, model.grid_residuals(3), scale=2.0, k=5)
    assert per_query.shape == (3, 8, 3)
    for w, values in zip(grid(2, 3), per_query, strict=True):
        assert np.array_equal(model.point(w, scale=2.0, k=5).per_query, values.numpy(), equal_nan=True)


@pytest.mark.parametrize("c", [0.0, -1.0, math.nan])
def test_a_scale_that_is_not_positive_is_refused(c: float) -> None:
    model = live()
    with pytest.raises(WeightsError, match="scale c is a finite number above 0"):
        model.point([0.5, 0.5], scale=c)
    with pytest.raises(WeightsError, match="scale c"):
        front_ndcg(model.table, model.grid_residuals(2), scale=c)


def test_weights_off_the_simplex_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"which sum to 1\.2"):
        live().point([0.6, 0.6])


def test_lower_is_better_is_reflected_in_gains_and_targets() -> None:
    t = table(objectives=(CLICKS, FRESH))
    raw = t.lists.pad(t.lists.labels[:, 2])
    for q in range(len(t)):
        n = int(t.mask[q].sum())
        values = raw[q, :n]
        assert torch.allclose(t.gains[q, :n, 2], values.max() - values)
        if n > 1:
            assert t.targets[q, :n, 1].argmax() == values.argmin()


def test_intervals_of_a_point_share_their_draws() -> None:
    model = live()
    t = model.table
    first = model.point([0.5, 0.5]).intervals(t.bootstrap)
    skipped = np.isnan(model.point([0.5, 0.5]).per_query).sum(0).tolist()
    assert [i.skipped for i in first] == skipped
    assert skipped[1] == 4, "every second toy list has no click"
    assert first == model.point([0.5, 0.5]).intervals(t.bootstrap)


# --- fronts ----------------------------------------------------------------------------------------------------------


def test_a_measured_front_keeps_its_residuals_in_item_order() -> None:
    model = live()
    t = model.table
    residuals = model.grid_residuals(3)
    front = measured_front(
        t, residuals, grid(2, 3).numpy(), name="x", method="hyperdpo", keep_residuals=True, split="test", data="f"
    )
    assert front.residuals is not None
    assert front.residuals.shape == (3, len(t.lists.labels))
    again = torch.stack([t.lists.pad(torch.from_numpy(r)) for r in front.residuals])
    assert torch.equal(again, residuals)
    assert front.ndcg[1].tolist() == pytest.approx(model.point([0.5, 0.5]).ndcg.tolist(), abs=1e-6)
    assert front.objectives == ("clicks", "quality")
    assert front.beta == BETA


def test_the_base_front_is_the_base_alone() -> None:
    t = table()
    front = base_front(t, split="test", k=5)
    assert front.weights.shape == (1, 0)
    assert np.allclose(front.ndcg[0], measure(t, torch.zeros_like(t.base), k=5).ndcg)
    sizes = t.lists.sizes.double()
    expected = [float(sizes[::2].log().mean()), float(sizes.log().mean())]
    assert front.cross_entropy is not None
    assert front.cross_entropy[0].tolist() == pytest.approx(expected, abs=1e-5), "chance: log n, over informative lists"


# --- batches ---------------------------------------------------------------------------------------------------------


def batches(size: int = 3, sizes=SIZES, **kw) -> RankBatches:
    rolled = lists(sizes, informative=kw.pop("informative", False))
    return RankBatches(rolled, rolled.features, rolled.base, (CLICKS, QUALITY), batch_size=size, **kw)


@pytest.mark.parametrize("size", [1, 3, 5, 100])
def test_an_epoch_sees_every_list_once(size: int) -> None:
    data = batches(size)
    seen = [q for batch in data.epoch(rng_for(0), 0, 0, 1) for q in batch.queries.tolist()]
    assert sorted(seen) == list(range(8))
    assert len(list(data.epoch(rng_for(0), 0, 0, 1))) == len(data)


def test_an_epoch_from_a_later_step_is_the_rest_of_the_same_epoch() -> None:
    data = batches(3)
    whole = [b.queries.tolist() for b in data.epoch(rng_for(0), 0, 0, 1)]
    assert [b.queries.tolist() for b in data.epoch(rng_for(0), 1, 0, 1)] == whole[1:]
    assert [b.queries.tolist() for b in data.epoch(rng_for(1), 0, 0, 1)] != whole
    assert list(data.epoch(rng_for(0), len(data), 0, 1)) == []


@pytest.mark.parametrize("world", [2, 5])
def test_processes_share_each_batch(world: int) -> None:
    data = batches(3)
    whole = list(data.epoch(rng_for(0), 0, 0, 1))
    shares = [list(data.epoch(rng_for(0), 0, rank, world)) for rank in range(world)]
    for step, batch in enumerate(whole):
        queries = batch.queries.tolist()
        for rank in range(world):
            share = shares[rank][step]
            assert share.queries.tolist() == queries[rank::world] == queries[share.share]
            assert share.total == len(queries)
            assert share.mask.shape[0] == len(share.queries)


def test_a_batch_is_its_lists_padded() -> None:
    data = batches()
    rolled = data.lists
    batch = data.batch(np.array([2, 4, 0]), total=3)
    features, base, mask = batch.inputs
    targets, _ = list_targets(rolled, (CLICKS, QUALITY), 1)
    assert mask.sum(1).tolist() == [3, 2, 5]
    for row, q in enumerate((2, 4, 0)):
        rows = slice(int(rolled.offsets[q]), int(rolled.offsets[q + 1]))
        n = rows.stop - rows.start
        assert torch.equal(features[row, :n], rolled.features[rows])
        assert torch.equal(base[row, :n], rolled.base[rows])
        assert torch.equal(batch.targets[row, :n], targets[rows])
        assert not features[row, n:].any()
        assert not base[row, n:].any()
        assert not batch.targets[row, n:].any()


def test_once_gives_every_list_within_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "CHUNK_ITEMS", 12)
    found = list(batches().once())
    assert sorted(q for b in found for q in b.queries.tolist()) == list(range(8))
    assert all(b.mask.numel() <= 12 or len(b.mask) == 1 for b in found)
    assert len(found) > 2


def test_encoding_in_chunks_puts_every_item_back_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "CHUNK_ITEMS", 10)
    rolled = lists(SIZES)
    out = encode_in_chunks(lambda b: b.inputs[0][..., 0] + b.inputs[1], rolled, rolled.features, rolled.base)
    assert torch.equal(out, rolled.features[:, 0] + rolled.base)
    wide = encode_in_chunks(lambda b: b.inputs[0].transpose(1, 2), rolled, rolled.features, rolled.base)
    assert torch.equal(wide, rolled.features)


def test_coverage_is_the_share_of_informative_lists() -> None:
    assert batches().coverage.tolist() == [0.5, 1.0]


def test_an_objective_without_any_label_is_named() -> None:
    rolled = lists(SIZES)
    rolled.labels[:, 1] = 0.0
    with pytest.raises(DataError, match="No list is informative for 'clicks': every label is 0; remove the objective"):
        RankBatches(rolled, rolled.features, rolled.base, (CLICKS, QUALITY), batch_size=2)


def test_lists_of_5000_items() -> None:
    rolled = lists((5000, 2))
    t = ListTable(rolled, task(), rolled.base, BETA)
    model = LiveModel(Ranker(4, 2, "mixture", NetConfig(8, 1, 2), BETA), t, rolled.features)
    point = model.point([0.5, 0.5])
    assert np.isfinite(point.ndcg).all()
    assert torch.allclose(scaled_scores(t.base, model.residual([0.5, 0.5]), 1.0)[1, 2:], torch.zeros(4998))
