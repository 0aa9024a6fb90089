"""Ranking networks: exact parameter counts, masks, permutations, and how each parametrisation takes the weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hyperdpo.errors import ConfigError
from hyperdpo.losses import listwise_loss, objective_losses
from hyperdpo.rank.model import PARAMETRISATIONS, SEPARABLE, NetConfig, Ranker, ScoreNet, count_parameters
from hyperdpo.training import seed_torch
from hyperdpo.weights import grid

SMALL = NetConfig(width=16, layers=2, heads=2)
BETA = (0.7, 0.7)
CONDITIONED = tuple(p for p in PARAMETRISATIONS if p not in SEPARABLE)


def ranker(parametrisation: str, *, config: NetConfig = SMALL, conditioned: bool = True, m: int = 2) -> Ranker:
    """A network that is not at its initial values, so that zero-initialised parts take part too."""
    seed_torch(3)
    model = Ranker(4, m, parametrisation, config, BETA[:1] * m, conditioned=conditioned)
    g = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=g))
    return model.eval()


def inputs(b: int = 3, n: int = 6, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    mask = torch.arange(n)[None] < torch.tensor([n, n - 2, 1, n - 1, 2])[:b, None]
    return torch.randn(b, n, 4, generator=g), torch.randn(b, n, generator=g), mask


W = torch.tensor([0.3, 0.7])


# --- exact counts ----------------------------------------------------------------------------------------------------


def paper(parametrisation: str, *, conditioned: bool = True) -> int:
    return count_parameters(Ranker(131, 5, parametrisation, NetConfig(), (1.0,) * 5, conditioned=conditioned))


def test_parameter_counts_of_the_paper() -> None:
    assert paper("augmentation", conditioned=False) == 50_112
    assert paper("scratch", conditioned=False) == 50_112
    assert paper("augmentation") == paper("scratch") == 50_432 == 50_112 + 5 * 64
    assert paper("mixture") == paper("geometric") == 50_368 == 50_112 + 4 * 64
    assert 11 * paper("augmentation", conditioned=False) == 551_232, "DPO-LS of Table 1"


def test_the_count_by_hand() -> None:
    width, d = 64, 131
    block = (3 * width * width + 3 * width) + (width * width + width) + (width * width + width)
    assert count_parameters(ScoreNet(d, NetConfig())) == (d * width + width) + 2 * block + width == 50_112


def test_frozen_parameters_are_not_counted() -> None:
    model = ScoreNet(4, SMALL)
    whole = count_parameters(model)
    model.head.weight.requires_grad_(False)
    assert count_parameters(model) == whole - 16


# --- masks and order -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_base", [False, True])
@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
def test_pads_never_touch_real_items(parametrisation: str, use_base: bool) -> None:
    model = ranker(parametrisation, config=NetConfig(16, 2, 2, use_base=use_base))
    features, base, mask = inputs()
    before = model(features, base, mask, W)
    junk = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(9)) * 1e3
    other = model(features.where(mask[..., None], junk), base.where(mask, torch.full_like(base, 77.0)), mask, W)
    assert torch.equal(before, other)
    assert not before[~mask].any(), "0 on pads"
    wide = torch.cat([features, junk], 1), torch.cat([base, base], 1), torch.cat([mask, torch.zeros_like(mask)], 1)
    assert torch.allclose(model(*wide, W)[:, :6], before, atol=1e-5)


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
def test_a_list_does_not_depend_on_the_other_lists_of_its_batch(parametrisation: str) -> None:
    model = ranker(parametrisation)
    features, base, mask = inputs()
    whole = model(features, base, mask, W)
    for i in range(3):
        n = int(mask[i].sum())
        alone = model(features[i : i + 1, :n], base[i : i + 1, :n], mask[i : i + 1, :n], W)
        assert torch.allclose(alone[0], whole[i, :n], atol=1e-5)


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
def test_permuting_the_items_permutes_the_residual(parametrisation: str) -> None:
    model = ranker(parametrisation)
    features, base, mask = inputs(1)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    moved = model(features[:, order], base[:, order], mask[:, order], W)
    assert torch.allclose(moved, model(features, base, mask, W)[:, order], atol=1e-5)


def test_items_of_a_list_attend_to_each_other() -> None:
    model = ranker("augmentation")
    features, base, mask = inputs(1)
    changed = features.clone()
    changed[0, 5] += 1.0
    difference = (model(features, base, mask, W) - model(changed, base, mask, W)).abs()
    assert (difference[0, :5] > 1e-6).all()


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
def test_a_fully_padded_list_is_finite_with_finite_gradients(parametrisation: str) -> None:
    model = ranker(parametrisation)
    features, base, mask = inputs()
    mask = mask.clone()
    mask[1] = False
    weights = None if model.separable else W
    residual = model(features, base, mask, weights)
    targets = torch.rand(3, 6, 2) * mask[..., None]
    losses = objective_losses(residual, targets, mask, torch.tensor(BETA))
    assert losses.isfinite().all()
    assert losses[1].tolist() == [0.0, 0.0]
    losses.sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
def test_a_batch_without_lists_is_allowed(parametrisation: str) -> None:
    """A process's share of a short last batch may be empty; the others wait for its gradients."""
    model = ranker(parametrisation)
    empty = torch.zeros(0, 1, 4), torch.zeros(0, 1), torch.zeros(0, 1, dtype=torch.bool)
    model(*empty, None if model.separable else torch.zeros(0, 2)).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
def test_conditioning_changes_the_order_of_items(parametrisation: str) -> None:
    model = ranker(parametrisation)
    features, base, mask = inputs(1)
    ends = [model(features, base, mask, w) for w in torch.eye(2)]
    centred = [e - e.mean() for e in ends]
    assert (centred[0] - centred[1]).abs().max() > 1e-2


@pytest.mark.parametrize("parametrisation", CONDITIONED)
def test_an_unconditioned_model_does_not_see_the_weights(parametrisation: str) -> None:
    model = ranker(parametrisation, conditioned=False)
    x = inputs()
    assert torch.equal(model(*x, torch.tensor([1.0, 0.0])), model(*x, torch.tensor([0.0, 1.0])))


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
def test_every_row_has_its_own_weights(parametrisation: str) -> None:
    model = ranker(parametrisation)
    x = inputs()
    weights = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.1, 0.9]])
    together = model(*x, weights)
    for i in range(3):
        assert torch.allclose(together[i], model(*x, weights[i])[i], atol=1e-5)


def test_film_starts_unconditioned() -> None:
    seed_torch(0)
    model = Ranker(4, 2, "film", SMALL, BETA)
    x = inputs()
    assert torch.equal(model(*x, torch.tensor([1.0, 0.0])), model(*x, torch.tensor([0.0, 1.0])))


def test_scratch_outputs_s_and_returns_the_residual() -> None:
    model = ranker("scratch")
    features, base, mask = inputs()
    moved = model(features, base + 2.0, mask, W)
    assert torch.allclose(moved[mask], model(features, base, mask, W)[mask] - 2.0, atol=1e-5)


def test_the_base_is_an_input_only_where_asked() -> None:
    features, base, mask = inputs()
    for use_base in (False, True):
        model = ranker("augmentation", config=NetConfig(16, 2, 2, use_base=use_base))
        same = torch.allclose(model(features, base, mask, W), model(features, base.flip(1), mask, W))
        assert same != use_base


@pytest.mark.parametrize("parametrisation", SEPARABLE)
def test_separable_models_are_the_closed_form_of_their_heads(parametrisation: str) -> None:
    model = ranker(parametrisation)
    features, base, mask = inputs()
    logits = model.net(features, mask)
    residual = model(features, base, mask, W)
    for i in range(3):
        n = int(mask[i].sum())
        p = torch.softmax(logits[i, :n], 0)
        expected = (p @ W).log() if parametrisation == "mixture" else p.log() @ W
        assert torch.allclose(residual[i, :n], expected / BETA[0], atol=1e-4)


@pytest.mark.parametrize("parametrisation", SEPARABLE)
def test_the_corners_at_once_are_the_corners_one_by_one(parametrisation: str) -> None:
    model = ranker(parametrisation)
    x = inputs()
    corners = model(*x, None)
    assert corners.shape == (3, 6, 2)
    for j in range(2):
        assert torch.allclose(corners[..., j] * x[2], model(*x, torch.eye(2)[j]), atol=1e-5)


@pytest.mark.parametrize("parametrisation", SEPARABLE)
def test_a_corner_of_the_mixture_has_the_single_objective_loss_of_its_head(parametrisation: str) -> None:
    """Head j trained by eq. (9) on objective j alone is what w = e_j gives by eq. (10)."""
    model = ranker(parametrisation)
    features, base, mask = inputs()
    targets = torch.softmax(torch.randn(3, 6, generator=torch.Generator().manual_seed(1)).masked_fill(~mask, -1e9), -1)
    for j in range(2):
        corner = listwise_loss(model(features, base, mask, torch.eye(2)[j]), targets, mask, beta=BETA[j])
        alone = listwise_loss(model.net(features, mask)[..., j], targets, mask)
        assert torch.allclose(corner, alone, atol=1e-5)


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
def test_encoding_once_and_decoding_many_times_is_the_forward_pass(parametrisation: str) -> None:
    model = ranker(parametrisation)
    features, base, mask = inputs()
    encoded = model.encode(features, base, mask)
    for w in grid(2, 5):
        assert torch.equal(model.decode(encoded, w, base, mask), model(features, base, mask, w))


def test_beta_is_not_part_of_the_saved_weights() -> None:
    assert not any("beta" in name for name in ranker("mixture").state_dict())


# --- refusals --------------------------------------------------------------------------------------------------------


def test_unknown_parametrisations_name_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"called 'mixtur' \(did you mean 'mixture'\?\); there are mixture, geometric"
    ):
        Ranker(4, 2, "mixtur", SMALL, BETA)


@pytest.mark.parametrize("parametrisation", SEPARABLE)
def test_closed_forms_need_one_beta(parametrisation: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"The {parametrisation} needs one common beta; got \(0.5, 1.0\); use --param"
    ):
        Ranker(4, 2, parametrisation, SMALL, (0.5, 1.0))
    Ranker(4, 2, "film", SMALL, (0.5, 1.0))


def test_only_separable_models_have_all_corners_at_once() -> None:
    with pytest.raises(ConfigError, match="Only mixture and geometric have all corners at once"):
        ranker("film")(*inputs(), None)


@pytest.mark.parametrize(
    "fields",
    [{"width": 10, "heads": 4}, {"width": 0}, {"heads": -1}, {"layers": -1}, {"dropout": 1.0}, {"dropout": -0.1}],
)
def test_sizes_that_cannot_work(fields: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="got"):
        NetConfig(**fields)  # type: ignore[arg-type]
