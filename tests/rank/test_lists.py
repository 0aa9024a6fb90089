"""ListSet: padding and back; Scaler: what it learns from the training rows."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor

from hyperdpo.errors import ConfigError, DataError, RunError
from hyperdpo.rank.data import ListSet, Scaler
from hyperdpo.rank.scaler import CLIP, signed_log1p


def make(sizes: list[int], d: int = 3) -> ListSet:
    rows = sum(sizes)
    values = torch.arange(rows * d, dtype=torch.float32).reshape(rows, d) + 1
    offsets = torch.tensor([0, *torch.tensor(sizes).cumsum(0).tolist()] if sizes else [0])
    return ListSet(values, values[:, :2], values[:, 0], offsets, torch.arange(len(sizes)) + 10)


sizes_of_lists = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def test_pad_by_hand() -> None:
    lists = make([2, 1], d=1)
    assert lists.mask().tolist() == [[True, True], [True, False]]
    assert lists.pad(lists.features).tolist() == [[[1], [2]], [[3], [0]]]
    assert lists.pad(lists.base, torch.tensor([1])).tolist() == [[3]]
    assert lists.unpad(torch.tensor([[7, 8], [9, 0]])).tolist() == [7, 8, 9]
    assert lists.sizes.tolist() == [2, 1]
    assert len(lists) == 2


@given(sizes_of_lists, st.integers(0, 3))
def test_unpad_inverts_pad(sizes: list[int], dims: int) -> None:
    lists = make(sizes)
    values = torch.randn(sum(sizes), *range(2, 2 + dims))
    padded = lists.pad(values)
    assert padded.shape == (len(sizes), max(sizes), *values.shape[1:])
    assert torch.equal(lists.unpad(padded), values)
    assert not padded[~lists.mask()].any()


@given(sizes_of_lists, st.data())
def test_chosen_lists_agree_with_a_loop(sizes: list[int], data: st.DataObject) -> None:
    lists = make(sizes)
    chosen = data.draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=10))
    queries = torch.tensor(chosen)
    padded, mask = lists.pad(lists.features, queries), lists.mask(queries)
    assert padded.shape[1] == max(sizes[q] for q in chosen)
    for row, q in enumerate(chosen):
        expected = lists.features[lists.offsets[q] : lists.offsets[q + 1]]
        assert torch.equal(padded[row, mask[row]], expected)
    subset = lists.subset(queries)
    assert torch.equal(subset.pad(subset.features), padded)
    assert torch.equal(subset.query_index, lists.query_index[queries])
    assert torch.equal(lists.unpad(padded, queries), subset.features)
    assert torch.equal(subset.labels, lists.labels[lists.rows(queries)])


def test_no_lists_at_all() -> None:
    empty = make([2, 3]).subset(torch.tensor([], dtype=torch.int64))
    assert len(empty) == 0
    assert empty.pad(empty.features).shape == (0, 0, 3)
    assert empty.mask().shape == (0, 0)


def test_without_a_base() -> None:
    lists = make([2, 3])
    bare = ListSet(lists.features, lists.labels, None, lists.offsets, lists.query_index)
    assert bare.subset(torch.tensor([1])).base is None
    assert bare.to("cpu").base is None


def test_gradients_pass_through_padding() -> None:
    lists = make([2, 3])
    values = torch.randn(5, requires_grad=True)
    lists.pad(values).square().sum().backward()
    assert torch.allclose(values.grad, 2 * values.detach())  # type: ignore[arg-type]


def test_padding_two_thousand_lists_is_fast() -> None:
    lists = make([60 + i % 61 for i in range(2_000)], d=1)
    values = torch.randn(int(lists.offsets[-1]), 6)
    lists.pad(values)
    start = time.perf_counter()
    lists.pad(values)
    assert time.perf_counter() - start < 0.5  # about 10 ms; a loop over lists would still pass on a fast machine


NORMAL = torch.randn(2_000, 2, generator=torch.Generator().manual_seed(0))
HEAVY = torch.randn(2_000, 2, generator=torch.Generator().manual_seed(1)).mul(2).exp()


def test_standard_columns() -> None:
    scaled = Scaler.fit(NORMAL * 7 + 3, ["a", "b"])(NORMAL * 7 + 3)
    assert torch.allclose(scaled.mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(scaled.std(0, correction=0), torch.ones(2), atol=1e-4)


def test_heavy_tails_go_through_the_logarithm() -> None:
    x = torch.cat([NORMAL, HEAVY, -HEAVY], 1)
    scaler = Scaler.fit(x, list("abcdef"))
    assert scaler.log.tolist() == [False, False, True, True, True, True]
    assert scaler(x).abs().max() < CLIP
    assert torch.allclose(scaler(x)[:, 4:], -scaler(x)[:, 2:4], atol=1e-5)
    assert not Scaler.fit(x, list("abcdef"), "standard").log.any()
    assert Scaler.fit(x, list("abcdef"), "standard")(x).abs().max() == CLIP


def test_signed_log1p_by_hand() -> None:
    e = torch.e
    assert torch.allclose(signed_log1p(torch.tensor([0.0, e - 1, 1 - e])), torch.tensor([0.0, 1.0, -1.0]))


def test_kind_none_changes_nothing() -> None:
    assert torch.equal(Scaler.fit(HEAVY, ["a", "b"], "none")(HEAVY), HEAVY)


def test_constant_columns_become_zero_also_elsewhere() -> None:
    values = torch.tensor([0.1, -1e-20, 3e7, 0.0])
    scaler = Scaler.fit(values.expand(997, 4), list("abcd"))
    assert scaler.std.tolist() == [0.0] * 4
    assert scaler(torch.tensor([[99.0, 1.5, -1.0, 2.0]])).tolist() == [[0.0] * 4]


def test_values_far_from_train_are_clipped() -> None:
    scaler = Scaler.fit(NORMAL, ["a", "b"])
    assert scaler(torch.tensor([[1e6, -1e6]])).tolist() == [[CLIP, -CLIP]]


def test_nan_stays_nan() -> None:
    assert Scaler.fit(NORMAL, ["a", "b"])(torch.tensor([[torch.nan, 0.0]]))[0, 0].isnan()


def test_any_leading_shape() -> None:
    scaler = Scaler.fit(NORMAL, ["a", "b"])
    assert torch.equal(scaler(NORMAL.reshape(10, 200, 2)).reshape(-1, 2), scaler(NORMAL))


@given(st.integers(1, 40), st.integers(0, 2**31), st.sampled_from(["auto", "standard", "none"]))
def test_state_round_trip(d: int, seed: int, kind: str) -> None:
    x = torch.randn(50, d, generator=torch.Generator().manual_seed(seed)).pow(3)
    scaler = Scaler.fit(x, [f"ü{i}" for i in range(d)], kind)  # type: ignore[arg-type]
    again = Scaler.from_state(load(save(scaler.state())))
    assert torch.equal(again(x), scaler(x))
    assert again.names == scaler.names
    assert again.kind == kind


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_statistics_are_those_of_the_columns(d: int, seed: int) -> None:
    x = torch.randn(200, d, generator=torch.Generator().manual_seed(seed)) * 5 + 2
    scaler = Scaler.fit(x, [str(i) for i in range(d)], "standard")
    assert torch.allclose(scaler.mean, x.mean(0), atol=1e-5)
    assert torch.allclose(scaler.std, x.std(0, correction=0), atol=1e-5)


def test_bad_fits() -> None:
    with pytest.raises(DataError, match="no rows; the training split is empty"):
        Scaler.fit(torch.empty(0, 2), ["a", "b"])
    with pytest.raises(ConfigError, match=r"shape \(N, 1\) are expected; got \(2000, 2\)"):
        Scaler.fit(NORMAL, ["a"])
    with pytest.raises(ConfigError, match=r"got 'standrad' \(did you mean 'standard'\?\)"):
        Scaler.fit(NORMAL, ["a", "b"], "standrad")  # type: ignore[arg-type]
    with pytest.raises(DataError) as caught:
        Scaler.fit(torch.tensor([[1.0, torch.nan, torch.inf]]), ["a", "b", "c"])
    assert caught.value.problems == [f"Feature {n!r} holds NaN or infinity; put numbers there." for n in "bc"]


def test_another_number_of_features() -> None:
    with pytest.raises(ConfigError, match="fitted on 2 features; got 3"):
        Scaler.fit(NORMAL, ["a", "b"])(torch.zeros(1, 3))


def broken_state(**changes: Tensor) -> dict[str, Tensor]:
    return {**Scaler.fit(NORMAL, ["a", "b"]).state(), **changes}


def test_bad_states_list_all_that_is_wrong() -> None:
    with pytest.raises(RunError) as caught:
        Scaler.from_state({})
    assert len(caught.value.problems) == 6
    with pytest.raises(RunError) as caught:
        Scaler.from_state(broken_state(mean=torch.zeros(3), kind=torch.tensor(9)))
    assert caught.value.problems == [
        "The saved scaler has 3 values in 'mean' for 2 features; the run is damaged.",
        "The saved scaler is of the unknown kind 9; it may come from a later version.",
    ]
    with pytest.raises(RunError, match="0 values in 'names' for 2 features"):
        Scaler.from_state(broken_state(names=torch.tensor([1, 2], dtype=torch.uint8)))
