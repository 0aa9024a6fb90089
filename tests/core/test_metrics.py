"""NDCG under our tie rule against hand-worked numbers, loops, scikit-learn and trec_eval; cross-entropy; intervals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from hyperdpo.errors import DataError
from hyperdpo.losses import listwise_loss
from hyperdpo.metrics import (
    NDCG,
    bootstrap_counts,
    bootstrap_means,
    cross_entropy,
    discounts,
    ideal_dcg,
    intervals,
    ndcg,
    top_items,
)

TIED = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 3.0])


def one(scores: list[float], gains: list[float], k: int = 10, pads: int = 0) -> float:
    n = len(scores)
    s = torch.tensor([scores + [1e9] * pads])
    g = torch.tensor([gains + [7.0] * pads])
    return float(ndcg(s, g, torch.arange(n + pads)[None] < n, k))


def slow_order(scores: list[float]) -> list[int]:
    """Best first; ties keep the input order. Insertion, item by item."""
    order: list[int] = []
    for i, s in enumerate(scores):
        place = len(order)
        while place and scores[order[place - 1]] < s:
            place -= 1
        order.insert(place, i)
    return order


def slow_ndcg(scores: list[float], gains: list[float], k: int) -> float:
    def dcg(ordered: list[float]) -> float:
        return sum(g / math.log2(i + 2) for i, g in enumerate(ordered[:k]))

    ideal = dcg(sorted(gains, reverse=True))
    return dcg([gains[i] for i in slow_order(scores)]) / ideal if ideal > 0 else math.nan


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_discounts() -> None:
    assert discounts(3, like=torch.zeros(1)).tolist() == pytest.approx([1.0, 1 / math.log2(3), 0.5])


def test_ndcg_by_hand() -> None:
    # order: items 2, 0, 1 with gains 0, 3, 1; ideal 3, 1, 0
    dcg = 0 + 3 / math.log2(3) + 1 / 2
    ideal = 3 + 1 / math.log2(3)
    assert one([0.5, 0.1, 0.9], [3.0, 1.0, 0.0]) == pytest.approx(dcg / ideal, abs=1e-6)
    assert one([0.5, 0.1, 0.9], [3.0, 1.0, 0.0], k=1) == 0.0
    assert one([0.5, 0.1, 0.9], [3.0, 1.0, 0.0], k=2) == pytest.approx((3 / math.log2(3)) / ideal, abs=1e-6)


def test_gain_is_linear_not_exponential() -> None:
    linear = (1 + 4 / math.log2(3)) / (4 + 1 / math.log2(3))
    exponential = (1 + 15 / math.log2(3)) / (15 + 1 / math.log2(3))
    got = one([2.0, 1.0], [1.0, 4.0])
    assert got == pytest.approx(linear, abs=1e-6)
    assert abs(got - exponential) > 0.05


def test_ties_keep_the_input_order() -> None:
    assert one([1.0, 1.0], [1.0, 0.0]) == 1.0
    assert one([1.0, 1.0], [0.0, 1.0]) == pytest.approx(1 / math.log2(3), abs=1e-6)
    assert top_items(torch.zeros(1, 6), torch.ones(1, 6, dtype=torch.bool), 6).tolist() == [[0, 1, 2, 3, 4, 5]]


def test_ties_keep_the_input_order_in_long_lists() -> None:
    """torch.topk alone breaks ties differently from some length on."""
    n = 5000
    scores = torch.zeros(2, n)
    scores[1, 100:200] = 1.0
    top = top_items(scores, torch.ones(2, n, dtype=torch.bool), 150)
    assert top[0].tolist() == list(range(150))
    assert top[1].tolist() == [*range(100, 200), *range(50)]


def test_a_list_without_a_positive_label_is_nan_and_left_out() -> None:
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    gains = torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    value = ndcg(scores, gains, torch.ones(2, 2, dtype=torch.bool))
    assert value[0].isnan()
    assert float(value[1]) == 1.0
    assert float(value.nanmean()) == 1.0


def test_a_negative_gain_is_refused() -> None:
    with pytest.raises(DataError, match=r"gains of 0 or more; got -0.5; declare a shift .*shift=VALUE"):
        one([1.0, 2.0], [1.0, -0.5])


def test_a_negative_gain_behind_a_pad_is_not_looked_at() -> None:
    mask = torch.tensor([[True, False]])
    assert float(ndcg(torch.tensor([[1.0, 5.0]]), torch.tensor([[1.0, -3.0]]), mask)) == 1.0


def test_nan_scores_are_refused() -> None:
    with pytest.raises(DataError, match="Scores must be numbers; got NaN"):
        one([1.0, math.nan], [1.0, 0.0])


def test_k_beyond_the_list_and_one_item_lists() -> None:
    assert one([3.0], [2.0]) == 1.0
    assert math.isnan(one([3.0], [0.0]))
    assert one([1.0, 2.0], [1.0, 0.0], k=1000) == one([1.0, 2.0], [1.0, 0.0], k=2)
    top = top_items(torch.tensor([[1.0, 2.0]]), torch.ones(1, 2, dtype=torch.bool), 9)
    assert top.tolist() == [[1, 0]]


def test_minus_zero_ties_with_zero() -> None:
    assert one([-0.0, 0.0], [1.0, 0.0]) == 1.0
    assert one([0.0, -0.0], [1.0, 0.0]) == 1.0
    assert one([-0.0, 0.0], [0.0, 1.0]) == pytest.approx(1 / math.log2(3), abs=1e-6)


def test_extremes_of_float32_and_infinities_sort_as_numbers() -> None:
    info = torch.finfo(torch.float32)
    rising = [
        -math.inf, info.min, -1e30, -1.0, -info.tiny, -1e-45, 0.0, 1e-45, info.tiny, 1.0, 1e30, info.max, math.inf,
    ]  # fmt: skip
    mask = torch.ones(1, len(rising), dtype=torch.bool)
    top = top_items(torch.tensor([rising]), mask, len(rising))
    assert top.tolist() == [list(range(len(rising)))[::-1]]


def test_a_real_item_at_minus_infinity_stands_before_every_pad() -> None:
    scores = torch.tensor([[5.0, -math.inf, math.inf, torch.finfo(torch.float32).min]])
    mask = torch.tensor([[False, True, False, True]])
    assert top_items(scores, mask, 4)[0, :2].tolist() == [3, 1]


def test_scores_of_one_list_that_are_huge_do_not_touch_another() -> None:
    scores = torch.tensor([[1e38, -1e38, 0.0], [0.1, 0.3, 0.2]])
    gains = torch.tensor([[0.0, 1.0, 2.0], [0.0, 2.0, 1.0]])
    value = ndcg(scores, gains, torch.ones(2, 3, dtype=torch.bool))
    assert float(value[1]) == 1.0
    assert float(value[0]) == pytest.approx(slow_ndcg([1e38, -1e38, 0.0], [0.0, 1.0, 2.0], 10), abs=1e-6)


def test_double_scores_that_differ_within_float32_tie() -> None:
    """Stated in top_items: the rule is about the float32 score."""
    scores = torch.tensor([[1.0, 1.0 + 1e-12]], dtype=torch.float64)
    assert top_items(scores, torch.ones(1, 2, dtype=torch.bool), 2).tolist() == [[0, 1]]


# --- against slower and independent versions -------------------------------------------------------------------------


@given(st.lists(st.tuples(TIED, st.integers(0, 4)), min_size=1, max_size=9), st.integers(1, 12), st.integers(0, 3))
def test_ndcg_against_loops_with_ties_and_pads(items, k, pads) -> None:
    scores, gains = [s for s, _ in items], [float(g) for _, g in items]
    expected = slow_ndcg(scores, gains, k)
    assert one(scores, gains, k, pads) == pytest.approx(expected, abs=1e-6, nan_ok=True)


@given(st.lists(st.tuples(TIED, st.integers(0, 4)), min_size=2, max_size=9), st.integers(1, 12))
def test_ndcg_against_scikit_learn_after_ranking_by_our_rule(items, k) -> None:
    """scikit-learn averages over ties; ranks by our rule have none."""
    scores, gains = [s for s, _ in items], [float(g) for _, g in items]
    if not any(gains):
        return
    ranks = np.empty(len(scores))
    ranks[slow_order(scores)] = np.arange(len(scores), 0, -1)
    expected = ndcg_score([gains], [ranks], k=k)
    assert one(scores, gains, k) == pytest.approx(expected, abs=1e-6)


def test_ndcg_against_scikit_learn_on_untied_scores() -> None:
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(40.0), (60, 1)), axis=1) - 20
    gains = rng.integers(0, 5, (60, 40)).astype(float)
    for k in (1, 5, 10, 40):
        ours = ndcg(torch.tensor(scores), torch.tensor(gains), torch.ones(60, 40, dtype=torch.bool), k)
        expected = [ndcg_score(gains[i : i + 1], scores[i : i + 1], k=k) for i in range(60)]
        assert ours.tolist() == pytest.approx(expected, abs=1e-6)


def test_ndcg_against_trec_eval_on_untied_scores() -> None:
    """trec_eval's ndcg_cut has linear gain too; its tie rule is another, so scores are untied."""
    ir_measures = pytest.importorskip("ir_measures")
    from ir_measures import nDCG

    rng = np.random.default_rng(1)
    scores, gains, sizes = rng.permuted(np.tile(np.arange(30.0), (25, 1)), axis=1), rng.integers(0, 5, (25, 30)), []
    qrels, run = [], []
    for q in range(25):
        sizes.append(int(rng.integers(1, 31)))
        gains[q, 0] = max(gains[q, 0], 1)
        for i in range(sizes[q]):
            qrels.append(ir_measures.Qrel(str(q), str(i), int(gains[q, i])))
            run.append(ir_measures.ScoredDoc(str(q), str(i), float(scores[q, i])))
    mask = torch.arange(30)[None] < torch.tensor(sizes)[:, None]
    ours = ndcg(torch.tensor(scores), torch.tensor(gains).float(), mask, 10)
    theirs = {m.query_id: m.value for m in ir_measures.iter_calc([nDCG @ 10], qrels, run)}
    assert ours.tolist() == pytest.approx([theirs[str(q)] for q in range(25)], abs=1e-6)


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 4)), min_size=2, max_size=8, unique_by=lambda p: p[0]))
def test_permutation_scale_and_monotone_maps_change_nothing(items) -> None:
    scores, gains = [float(s) for s, _ in items], [float(g) for _, g in items]
    value = one(scores, gains)
    assert one(scores[::-1], gains[::-1]) == pytest.approx(value, abs=1e-6, nan_ok=True)
    assert one([math.exp(s / 10) for s in scores], gains) == pytest.approx(value, abs=1e-6, nan_ok=True)
    assert one(scores, [3 * g for g in gains]) == pytest.approx(value, abs=1e-6, nan_ok=True)
    assert one(gains, gains) == pytest.approx(1.0, abs=1e-6) or not any(gains)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=8), st.data())
def test_moving_a_better_item_up_never_hurts(gains, data) -> None:
    i = data.draw(st.integers(0, len(gains) - 2))
    if gains[i] >= gains[i + 1]:
        return
    scores = [float(-r) for r in range(len(gains))]
    swapped = list(scores)
    swapped[i], swapped[i + 1] = swapped[i + 1], swapped[i]
    values = [float(g) for g in gains]
    assert one(swapped, values, 3) >= one(scores, values, 3) - 1e-7


def test_many_score_sets_and_objectives_at_once() -> None:
    g = torch.Generator().manual_seed(0)
    scores, gains = torch.randn(3, 4, 6, generator=g), torch.randint(0, 3, (4, 6, 2), generator=g).float()
    mask = torch.arange(6)[None] < torch.tensor([6, 4, 1, 2])[:, None]
    gains = gains * mask[..., None]
    value = NDCG(gains, mask, 3).per_query(scores)
    assert value.shape == (3, 4, 2)
    for p, q, j in itertools.product(range(3), range(4), range(2)):
        n = int(mask[q].sum())
        expected = slow_ndcg(scores[p, q, :n].tolist(), gains[q, :n, j].tolist(), 3)
        assert float(value[p, q, j]) == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert torch.allclose(NDCG(gains, mask, 3).per_query(scores[0]), value[0], equal_nan=True)


def test_ideal_dcg_by_hand() -> None:
    assert ideal_dcg(torch.tensor([[1.0, 0.0, 3.0]]), 2).tolist() == pytest.approx([3 + 1 / math.log2(3)])


# --- cross-entropy ---------------------------------------------------------------------------------------------------


def setup(m: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(5)
    mask = torch.arange(7)[None] < torch.tensor([7, 4, 2])[:, None]
    targets = torch.softmax(torch.randn(3, 7, m, generator=g).masked_fill(~mask[..., None], -1e9), 1) * mask[..., None]
    return torch.randn(3, 7, generator=g) * mask, targets, mask


@pytest.mark.parametrize("beta", [[0.7, 0.7, 0.7], [0.5, 1.0, 2.0]])
def test_cross_entropy_is_the_loss_per_objective(beta: list[float]) -> None:
    residual, targets, mask = setup()
    value = cross_entropy(residual, targets, mask, torch.tensor(beta))
    for j in range(3):
        assert torch.allclose(value[:, j], listwise_loss(residual, targets[..., j], mask, beta=beta[j]), atol=1e-6)


@pytest.mark.parametrize("beta", [[1.0, 1.0, 1.0], [0.5, 1.0, 2.0]])
def test_cross_entropy_leaves_uninformative_lists_out(beta: list[float]) -> None:
    residual, targets, mask = setup()
    targets[1, :, 2] = 0.0
    value = cross_entropy(residual, targets, mask, torch.tensor(beta))
    assert value.isnan().nonzero().tolist() == [[1, 2]]


def test_cross_entropy_at_c_beta_does_not_depend_on_c_but_at_the_training_beta_it_does() -> None:
    residual, targets, mask = setup()
    beta = torch.ones(3)
    at_one = cross_entropy(residual, targets, mask, beta)
    for c in (0.1, 0.5, 2.0, 10.0):
        assert torch.allclose(cross_entropy(residual / c, targets, mask, c * beta), at_one, atol=1e-5)
        assert (cross_entropy(residual / c, targets, mask, beta) - at_one).abs().max() > 0.05
    chance = torch.tensor([7.0, 4.0, 2.0]).log()[:, None].expand(3, 3)
    assert torch.allclose(cross_entropy(residual / 1e6, targets, mask, beta), chance, atol=1e-4)


# --- intervals -------------------------------------------------------------------------------------------------------


def test_bootstrap_counts_are_samples_with_replacement_and_repeat() -> None:
    counts = bootstrap_counts(12, draws=50)
    assert counts.shape == (50, 12)
    assert (counts.sum(1) == 12).all()
    assert np.array_equal(counts, bootstrap_counts(12, draws=50))
    assert not np.array_equal(counts, bootstrap_counts(12, draws=50, seed=1))


def test_bootstrap_means_against_loops() -> None:
    values = np.array([[1.0, np.nan], [2.0, 4.0], [6.0, 8.0]])
    counts = np.array([[1, 1, 1], [3, 0, 0], [0, 2, 1]], dtype=np.float32)
    means = bootstrap_means(values, counts)
    assert np.allclose(means, [[3.0, 6.0], [1.0, np.nan], [10 / 3, 16 / 3]], equal_nan=True)


def test_interval_covers_the_mean_and_counts_what_it_skipped() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.4, 0.1, (400, 2))
    values[:100, 1] = np.nan
    first, second = intervals(values)
    assert (first.queries, first.skipped, second.queries, second.skipped) == (400, 0, 300, 100)
    for interval, column in ((first, values[:, 0]), (second, values[100:, 1])):
        assert interval.mean == pytest.approx(column.mean(), abs=1e-6)
        error = column.std() / math.sqrt(len(column))
        assert interval.low == pytest.approx(column.mean() - 1.96 * error, abs=0.2 * error)
        assert interval.high == pytest.approx(column.mean() + 1.96 * error, abs=0.2 * error)


def test_interval_of_an_objective_without_any_value_is_nan_without_a_warning() -> None:
    values = np.array([[0.5, np.nan], [0.7, np.nan]])
    interval = intervals(values)[1]
    assert (interval.queries, interval.skipped) == (0, 2)
    assert math.isnan(interval.mean)
    assert math.isnan(interval.low)
