"""Methods as recipes over fit(): which models, which draws, what a step minimises."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hyperdpo.errors import ConfigError
from hyperdpo.losses import alignment_penalty, mo_dpo_loss, objective_losses
from hyperdpo.methods import (
    METHODS,
    SEVERAL,
    Member,
    MethodConfig,
    mean_losses,
    mean_margin_loss,
    members,
    mixing_weights,
    step_loss,
    trained_weights,
    validation_weights,
)
from hyperdpo.training import rng_for
from hyperdpo.weights import grid

BETA = torch.tensor([0.5, 2.0])


@dataclass
class Lists:
    """b lists of four items with m = 2; list 1 is uninformative for objective 0."""

    inputs: tuple[Tensor, Tensor, Tensor]
    targets: Tensor
    mask: Tensor
    total: int
    share: slice = field(default_factory=lambda: slice(None))
    rewards: Tensor | None = None

    @property
    def judged(self) -> Tensor:
        return self.mask.unsqueeze(-1).expand_as(self.targets)

    def of(self, rank: int, world: int) -> Lists:
        share = slice(rank, None, world)
        rewards = None if self.rewards is None else self.rewards[share]
        inputs = tuple(t[share] for t in self.inputs)
        return Lists(inputs, self.targets[share], self.mask[share], self.total, share, rewards)  # type: ignore[arg-type]


def lists(b: int = 6) -> Lists:
    g = torch.Generator().manual_seed(1)
    mask = torch.arange(4)[None] < torch.randint(2, 5, (b, 1), generator=g)
    targets = torch.softmax(torch.randn(b, 4, 2, generator=g).masked_fill(~mask[..., None], -1e9), 1) * mask[..., None]
    targets[1, :, 0] = 0.0
    return Lists((torch.randn(b, 4, 3, generator=g), torch.zeros(b, 4), mask), targets, mask, b)


class Toy(nn.Module):
    """A linear residual; remembers the weights it was asked for. `None` gives one residual per corner."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(2)
        self.direction = nn.Parameter(torch.randn(3, 2, generator=g))
        self.asked: list[Tensor | None] = []

    def encode(self, features: Tensor, base: Tensor, mask: Tensor) -> Tensor:
        return features

    def decode(self, encoded: Tensor, weights: Tensor, base: Tensor, mask: Tensor) -> Tensor:
        weights = weights.expand(len(mask), 2)
        return torch.einsum("bnd,dm,bm->bn", encoded, self.direction, weights).masked_fill(~mask, 0.0)

    def forward(self, features: Tensor, base: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
        self.asked.append(weights)
        if weights is None:
            return features @ self.direction
        return self.decode(features, weights, base, mask)


def loss_of(config: MethodConfig, batch: Lists, *, member: Member | None = None, separable: bool = False, **kw: Any):
    model = Toy()
    coverage = kw.get("coverage", torch.ones(2))
    function = step_loss(
        config, member or members(config, 2)[0], beta=BETA, coverage=coverage, separable=separable,
        anchor=kw.get("anchor", 0.0),
    )  # fmt: skip
    return function(model, batch, rng_for(0, 1)), model


def by_loops(model: Toy, batch: Lists, weights: Tensor) -> list[list[float]]:
    """L_j of every list, at one w per list."""
    out = []
    for i in range(len(batch.mask)):
        n = int(batch.mask[i].sum())
        residual = model.decode(batch.inputs[0][i : i + 1], weights[i : i + 1], batch.inputs[1], batch.mask[i : i + 1])
        row = []
        for j in range(2):
            log_q = torch.log_softmax(BETA[j] * residual[0, :n], 0)
            row.append(float(-(batch.targets[i, :n, j] * log_q).sum().detach()))
        out.append(row)
    return out


@pytest.mark.parametrize("method", ["dpo-ls", "mo-dpo"])
def test_an_anchor_adds_its_share_of_the_drift(method: str) -> None:
    batch, w = lists(), torch.tensor([0.3, 0.7])
    batch.rewards = torch.zeros(*batch.mask.shape, 2)
    plain, model = loss_of(MethodConfig(method), batch, member=Member(w, "x"))  # type: ignore[arg-type]
    held, _ = loss_of(MethodConfig(method), batch, member=Member(w, "x"), anchor=0.4)  # type: ignore[arg-type]
    drifts = []
    for i, row in enumerate(model.decode(batch.inputs[0], w, batch.inputs[1], batch.mask).detach()):
        n = int(batch.mask[i].sum())
        drifts.append(-float(row[:n].sum()) / n)
    share = float(BETA[1]) if method == "mo-dpo" else float(w @ BETA)
    assert float((held - plain).detach()) == pytest.approx(0.4 * share * sum(drifts) / len(drifts), rel=1e-4)


# --- members ---------------------------------------------------------------------------------------------------------


def test_members() -> None:
    (one,) = members(MethodConfig(), 3)
    assert one.weights is None
    eleven = members(MethodConfig("dpo-ls"), 3)
    assert torch.equal(torch.stack([m.weights for m in eleven if m.weights is not None]), grid(3))
    assert len(members(MethodConfig("dpo-ls", points=5), 2)) == 5
    assert eleven[0].label == "w = (1.00, 0.00, 0.00)"
    assert [m.part for m in members(MethodConfig("mo-dpo"), 3)] == [True] * 3 + [False] * 11
    assert len(members(MethodConfig("dpo-soup"), 3)) == 3
    for method in METHODS:
        config = MethodConfig(method)  # type: ignore[arg-type]
        answered = trained_weights(config, 3)
        answering = [m.weights for m in members(config, 3) if not m.part and m.weights is not None]
        assert (answered is None) == (not answering)
        assert answered is None or torch.equal(answered, torch.stack(answering))
        assert mixing_weights(config, 3) == (33 if method == "dpo-soup" else 0)


@pytest.mark.parametrize("method", SEVERAL)
def test_one_objective_is_not_several(method: str) -> None:
    with pytest.raises(ConfigError, match=f"{method} combines several objectives; got 1"):
        members(MethodConfig(method), 1)  # type: ignore[arg-type]


def test_only_a_hypernetwork_s_config_names_a_generator() -> None:
    assert "generator_width" not in MethodConfig("dpo-ls").to_dict()
    config = MethodConfig("hypernetwork", generator_width=9)
    assert MethodConfig(**config.to_dict()) == config


def test_validation_weights() -> None:
    config = MethodConfig(points=5)
    assert torch.equal(validation_weights(config, members(config, 2)[0], 2), grid(2, 5))
    assert len(validation_weights(config, members(config, 8)[0], 8)) == 8, "never fewer than the corners"
    own = Member(torch.tensor([0.3, 0.7]), "x")
    assert validation_weights(config, own, 2).tolist() == [pytest.approx([0.3, 0.7])]


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        MethodConfig("dpo-sl", alpha=0, draw="epoch", penalty=-1, penalty_sign="up")  # type: ignore[arg-type]
    assert len(caught.value.problems) == 5
    assert "did you mean 'dpo-ls'?" in str(caught.value)
    assert MethodConfig(**MethodConfig(alpha=0.3).to_dict()) == MethodConfig(alpha=0.3)


# --- what a step minimises -------------------------------------------------------------------------------------------


def test_a_draw_per_list_against_loops() -> None:
    batch = lists()
    value, model = loss_of(MethodConfig(), batch)
    (w,) = model.asked
    assert w is not None
    assert w.shape == (6, 2)
    assert len({tuple(row) for row in w.tolist()}) == 6, "every list has its own w"
    losses = by_loops(model, batch, w)
    expected = sum(float(w[i] @ torch.tensor(losses[i])) for i in range(6)) / 6
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_a_draw_per_step_against_loops() -> None:
    batch = lists()
    value, model = loss_of(MethodConfig(draw="step"), batch)
    (w,) = model.asked
    assert w is not None
    assert w.shape == (2,)
    losses = np.mean(by_loops(model, batch, w.expand(6, 2)), axis=0)
    assert value.item() == pytest.approx(float(w.numpy() @ losses), abs=1e-6)


@pytest.mark.parametrize("sign", ["toward", "away"])
def test_icos_by_hand(sign: str) -> None:
    """Per step: the cosine of the batch means. Per list: the mean of the lists' own cosines."""
    batch, direction = lists(), -1 if sign == "toward" else 1
    value, model = loss_of(MethodConfig(draw="step", penalty=3.0, penalty_sign=sign), batch)  # type: ignore[arg-type]
    w = model.asked[0]
    assert w is not None
    means = np.mean(by_loops(model, batch, w.expand(6, 2)), axis=0)
    cosine = float(w.numpy() @ means) / float(np.linalg.norm(w) * np.linalg.norm(means))
    assert value.item() == pytest.approx(float(w.numpy() @ means) + 3.0 * direction * cosine, abs=1e-5)

    batch.targets[1, :, 0] = batch.targets[1, :, 1]  # every list informative: nothing to mask
    value, model = loss_of(MethodConfig(penalty=3.0, penalty_sign=sign), batch)  # type: ignore[arg-type]
    w = model.asked[0]
    assert w is not None
    total = 0.0
    for row, losses in zip(w.double().numpy(), np.array(by_loops(model, batch, w)), strict=True):
        total += row @ losses + 3.0 * direction * (row @ losses) / np.linalg.norm(row) / np.linalg.norm(losses)
    assert value.item() == pytest.approx(total / 6, abs=1e-5)


def test_the_sign_of_the_penalty_decides_where_the_loss_vector_goes() -> None:
    """Descent of `away`, the printed formula, pushes the loss vector away from w; `toward` pulls it to w."""
    w = torch.tensor([0.9, 0.1])
    batch = lists().of(0, 6)
    batch.total = 1

    def cosine_after(sign: str) -> float:
        residual = torch.zeros(1, 4, requires_grad=True)

        class Free(nn.Module):
            def forward(self, *inputs: Any) -> Tensor:
                return residual

        config = MethodConfig(penalty=50.0, penalty_sign=sign)  # type: ignore[arg-type]
        function = step_loss(config, Member(w, "w"), beta=BETA, coverage=torch.ones(2), separable=False)
        for _ in range(200):
            (gradient,) = torch.autograd.grad(function(Free(), batch, rng_for(0)), residual)
            residual = (residual - 0.02 * gradient).detach().requires_grad_()
        return cosine(residual.detach())

    def cosine(residual: Tensor) -> float:
        return -float(alignment_penalty(objective_losses(residual, batch.targets, batch.mask, BETA), w))

    before = cosine(torch.zeros(1, 4))
    assert cosine_after("toward") > before + 0.003
    assert cosine_after("away") < before - 0.01


def test_a_fixed_member_is_trained_at_its_own_weights() -> None:
    batch, w = lists(), torch.tensor([0.3, 0.7])
    value, model = loss_of(MethodConfig("dpo-ls"), batch, member=Member(w, "w"))
    assert model.asked[0] is not None
    assert torch.equal(model.asked[0], w)
    losses = np.mean(by_loops(model, batch, w.expand(6, 2)), axis=0)
    assert value.item() == pytest.approx(float(w.numpy() @ losses), abs=1e-6)


def with_rewards(batch: Lists) -> Lists:
    batch.rewards = torch.randn(len(batch.mask), 4, 2, generator=torch.Generator().manual_seed(3))
    return batch


def test_mo_dpo_trains_its_parts_alone_and_the_others_with_their_margin() -> None:
    batch, method = with_rewards(lists()), MethodConfig("mo-dpo", points=3)
    beta, coverage = torch.tensor([0.5, 0.5]), torch.tensor([0.8, 0.4])
    model = Toy()
    parts, each = members(method, 2)[:2], members(method, 2)[2:]

    def loss(member: Member) -> Tensor:
        return step_loss(method, member, beta=beta, coverage=coverage, separable=False)(model, batch, rng_for(0))

    for part, corner in zip(parts, (each[0], each[2]), strict=True):
        assert loss(part).item() == pytest.approx(loss(corner).item(), abs=1e-6)
    w = torch.tensor([0.3, 0.7])
    residual = model.decode(batch.inputs[0], w, batch.inputs[1], batch.mask)
    own = mo_dpo_loss(residual, batch.targets[..., 1], batch.mask, batch.rewards, w, 1, beta=0.5).detach()
    assert loss(Member(w, "w")).item() == pytest.approx(float(own.sum()) / (6 * 0.4), abs=1e-6)
    validated = mean_margin_loss(model, [batch.of(0, 2), batch.of(1, 2)], w, beta)
    assert validated == pytest.approx(float(own.mean()), abs=1e-6)
    first = torch.tensor([0.7, 0.3])
    batch.targets[..., 0] = 0.0
    assert np.isnan(mean_margin_loss(model, [batch], first, beta)), "no list is informative"


def test_a_separable_model_is_trained_on_its_corners() -> None:
    batch = lists()
    value, model = loss_of(MethodConfig(), batch, separable=True)
    assert model.asked == [None]
    alone = [np.mean(by_loops(model, batch, torch.eye(2)[j].expand(6, 2)), axis=0)[j] for j in range(2)]
    assert value.item() == pytest.approx(sum(alone) / 2, abs=1e-6), "the mean of the m single-objective losses"


def test_coverage_makes_the_loss_the_mean_over_informative_lists() -> None:
    batch = lists()
    informative = batch.targets.sum(1) > 0
    assert informative.float().mean(0).tolist() == pytest.approx([5 / 6, 1.0])
    value, model = loss_of(MethodConfig(), batch, separable=True, coverage=informative.float().mean(0))
    expected = 0.0
    for j in range(2):
        losses = np.array(by_loops(model, batch, torch.eye(2)[j].expand(6, 2)))[:, j]
        expected += losses[informative[:, j].numpy()].mean() / 2
    assert value.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("case", ["list", "step", "separable", "fixed", "margin"])
@pytest.mark.parametrize("world", [2, 3])
def test_the_shares_of_several_processes_sum_to_the_whole(case: str, world: int) -> None:
    batch = with_rewards(lists(7))
    config = MethodConfig("mo-dpo" if case == "margin" else "hyperdpo", draw="step" if case == "step" else "list")
    member = Member(torch.tensor([0.2, 0.8]), "w") if case in ("fixed", "margin") else None
    whole, _ = loss_of(config, batch, member=member, separable=case == "separable")
    shares = [
        loss_of(config, batch.of(rank, world), member=member, separable=case == "separable")[0] for rank in range(world)
    ]
    assert torch.stack(shares).sum().item() == pytest.approx(whole.item(), abs=1e-6)


# --- validation ------------------------------------------------------------------------------------------------------


def test_mean_losses_against_loops() -> None:
    model, batch = Toy(), lists()
    weights = grid(2, 3)
    got = mean_losses(model, [batch.of(0, 2), batch.of(1, 2)], weights, BETA)
    informative = (batch.targets.sum(1) > 0).numpy()
    for p, w in enumerate(weights):
        losses = np.array(by_loops(model, batch, w.expand(6, 2)))
        for j in range(2):
            assert float(got[p, j]) == pytest.approx(losses[informative[:, j], j].mean(), abs=1e-6)


def test_mean_losses_without_an_informative_list_are_nan() -> None:
    batch = lists()
    batch.targets[..., 0] = 0.0
    got = mean_losses(Toy(), [batch], grid(2, 2), BETA)
    assert got.isnan().tolist() == [[True, False], [True, False]]
