"""Objectives: reading them, gains, and labels as a distribution (eq. 9)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyperdpo.errors import ConfigError
from hyperdpo.objectives import Objective

LABELS = st.lists(st.floats(0, 100, width=32), min_size=1, max_size=8)


def row(*values: float) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.tensor([values])
    return labels, torch.ones_like(labels, dtype=torch.bool)


# --- the grammar -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clicks", Objective("clicks", "clicks")),
        ("clicks=f134", Objective("clicks", "f134")),
        ("clicks:l1", Objective("clicks", "clicks", "l1")),
        ("clicks=f134:l1:max", Objective("clicks", "f134", "l1")),
        ("q=f132:softmax:0.5:min", Objective("q", "f132", "softmax", 0.5, "min")),
        ("q=f132:softmax:2:raw", Objective("q", "f132", "softmax", 2.0, standardise=False)),
        ("q=f132:shift=1.5", Objective("q", "f132", shift=1.5)),
        (" q = f132 ", Objective("q", "f132")),
    ],
)
def test_parse(text: str, expected: Objective) -> None:
    assert Objective.parse(text) == expected


def test_a_bare_name_may_carry_options() -> None:
    assert Objective.parse("label:shift=1") == Objective("label", "label", shift=1.0)
    assert Objective.parse("clicks:l1:min") == Objective("clicks", "clicks", "l1", direction="min")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clicks=f1:l3", "'l3' is neither l1, softmax, min, max.*NAME=COLUMN"),
        ("clicks=f1:shift=much", "'much' is neither"),
        ("clicks=:l1", "names a column; got 'clicks=:l1'"),
        ("=f1", "needs a name"),
        ("clicks=f1:softmax:0", "temperature is a number above 0; got 0.0 for 'clicks'"),
        ("clicks=f1:softmax:nan", "temperature is a number above 0; got nan"),
        ("clicks=f1:softmax:-2", "above 0; got -2.0"),
        ("clicks=f1:shift=inf", "A shift is a finite number; got inf"),
    ],
)
def test_parse_refuses(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Objective.parse(text)


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Objective("a,b", "c", "l2", -1.0, "up", shift=math.nan)  # type: ignore[arg-type]
    assert len(caught.value.problems) == 5


def test_dict_round_trip_and_unknown_fields() -> None:
    objective = Objective("q", "f132", "softmax", 0.5, "min", False, 2.0)
    assert Objective.from_dict(objective.to_dict()) == objective
    with pytest.raises(ConfigError, match="no field 'colour', 'size'"):
        Objective.from_dict({"name": "a", "column": "b", "size": 1, "colour": 2})


# --- gains -----------------------------------------------------------------------------------------------------------


def test_gains_by_hand() -> None:
    labels, mask = row(1.0, -2.0, 4.0, 9.0)
    mask[0, 3] = False
    assert Objective("a", "a", shift=2.0).gains(labels, mask).tolist() == [[3.0, 0.0, 6.0, 0.0]]
    # min: reflected about the list's best *real* item; the pad's 9 plays no part, and the shift cancels.
    assert Objective("a", "a", direction="min").gains(labels, mask).tolist() == [[3.0, 6.0, 0.0, 0.0]]
    assert Objective("a", "a", direction="min", shift=2.0).gains(labels, mask).tolist() == [[3.0, 6.0, 0.0, 0.0]]


def test_gains_of_an_empty_list_are_zero() -> None:
    empty = torch.zeros(1, 3, dtype=torch.bool)
    assert Objective("a", "a", direction="min").gains(torch.ones(1, 3), empty).tolist() == [[0.0, 0.0, 0.0]]


@given(LABELS)
def test_min_reverses_the_order_and_is_never_negative(values: list[float]) -> None:
    labels, mask = row(*values)
    gains = Objective("a", "a", direction="min").gains(labels, mask)
    assert (gains >= 0).all()
    assert float(gains.min()) == 0.0
    assert torch.equal(labels.argsort(stable=True), gains.argsort(descending=True, stable=True))


# --- targets ---------------------------------------------------------------------------------------------------------


def test_l1_by_hand() -> None:
    t, informative = Objective("a", "a", "l1").targets(*row(1.0, 0.0, 3.0))
    assert t.tolist() == [[0.25, 0.0, 0.75]]
    assert informative.tolist() == [True]


def test_l1_list_without_a_label_is_uninformative() -> None:
    labels = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    t, informative = Objective("a", "a", "l1").targets(labels, torch.ones(2, 2, dtype=torch.bool))
    assert informative.tolist() == [False, True]
    assert t.tolist() == [[0.0, 0.0], [0.5, 0.5]]


def test_l1_of_a_label_behind_a_pad_is_uninformative() -> None:
    labels, mask = row(0.0, 5.0)
    mask[0, 1] = False
    t, informative = Objective("a", "a", "l1").targets(labels, mask)
    assert not informative.any()
    assert t.tolist() == [[0.0, 0.0]]


def test_raw_softmax_by_hand() -> None:
    t, _ = Objective("a", "a", temperature=2.0, standardise=False).targets(*row(0.0, 2.0, 4.0))
    e = [1.0, math.e, math.e**2]
    assert t[0].tolist() == pytest.approx([v / sum(e) for v in e], abs=1e-6)


def test_raw_softmax_of_wide_labels_is_one_hot_and_the_standardised_one_is_not() -> None:
    """The trap of method.md: MSLR's quality scores run to 254."""
    labels, mask = row(254.0, 200.0, 10.0, 0.0)
    raw, _ = Objective("q", "q", standardise=False).targets(labels, mask)
    assert raw[0, 0] == pytest.approx(1.0, abs=1e-6)
    standardised, _ = Objective("q", "q").targets(labels, mask)
    assert standardised[0, 0] < 0.6
    z = [(v - 116.0) / math.sqrt(((138**2) + (84**2) + (106**2) + (116**2)) / 4) for v in (254.0, 200.0, 10.0, 0.0)]
    expected = [math.exp(v) / sum(map(math.exp, z)) for v in z]
    assert standardised[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_constant_labels_give_a_uniform_informative_distribution() -> None:
    t, informative = Objective("q", "q").targets(*row(7.0, 7.0, 7.0, 7.0))
    assert informative.tolist() == [True]
    assert t[0].tolist() == pytest.approx([0.25] * 4)


@pytest.mark.parametrize("value", [0.1, 576694.0, 1e-3, 123456.7])
def test_rounding_does_not_make_a_constant_list_informative(value: float) -> None:
    """0.1 + 0.2 is not 0.3: a difference in the last digit must not become a deviation of one."""
    labels = torch.full((1, 7), value)
    labels[0, 6] = torch.nextafter(labels[0, 6], torch.tensor(torch.inf))
    t, _ = Objective("q", "q").targets(labels, torch.ones(1, 7, dtype=torch.bool))
    assert t[0].tolist() == pytest.approx([1 / 7] * 7, abs=0.01)


def test_a_fully_padded_list_is_uninformative() -> None:
    mask = torch.tensor([[False, False], [True, False]])
    for kind in ("l1", "softmax"):
        t, informative = Objective("q", "q", kind).targets(torch.ones(2, 2), mask)  # type: ignore[arg-type]
        assert informative.tolist() == [False, True]
        assert t.tolist() == [[0.0, 0.0], [1.0, 0.0]]


@given(LABELS, st.sampled_from(["l1", "softmax"]), st.booleans(), st.floats(0.1, 10), st.randoms(use_true_random=False))
def test_targets_are_a_distribution_that_follows_a_permutation_and_keeps_the_order(values, kind, raw, temperature, rnd):
    objective = Objective("q", "q", kind, temperature, standardise=not raw)
    labels, mask = row(*values)
    t, informative = objective.targets(labels, mask)
    if not informative.item():
        assert kind == "l1"
        assert not labels.any()
        return
    assert (t >= 0).all()
    assert float(t.sum()) == pytest.approx(1.0, abs=1e-5)
    order = list(range(len(values)))
    rnd.shuffle(order)
    moved, _ = objective.targets(labels[:, order], mask)
    assert torch.allclose(moved, t[:, order], atol=1e-5)
    for i in range(len(values)):
        for j in range(len(values)):
            if values[i] > values[j]:
                assert t[0, i] >= t[0, j] - 1e-7


@given(LABELS, st.integers(0, 4), st.sampled_from(["l1", "softmax"]), st.sampled_from(["max", "min"]))
def test_pads_change_nothing(values, pads, kind, direction) -> None:
    objective = Objective("q", "q", kind, direction=direction)
    labels, mask = row(*values)
    t, informative = objective.targets(labels, mask)
    more = torch.cat([labels, torch.full((1, pads), 55.0)], 1)
    padded, also = objective.targets(more, torch.cat([mask, torch.zeros(1, pads, dtype=torch.bool)], 1))
    assert torch.equal(informative, also)
    assert torch.allclose(padded[:, : len(values)], t, atol=1e-6)
    assert not padded[:, len(values) :].any()


@given(st.lists(st.integers(0, 50), min_size=2, max_size=6), st.floats(0.5, 50))
def test_scale_invariance_of_l1_and_of_the_standardised_softmax(values, factor) -> None:
    labels, mask = row(*map(float, values))
    for kind in ("l1", "softmax"):
        objective = Objective("q", "q", kind)  # type: ignore[arg-type]
        assert torch.allclose(
            objective.targets(labels, mask)[0], objective.targets(labels * factor, mask)[0], atol=1e-4
        )
