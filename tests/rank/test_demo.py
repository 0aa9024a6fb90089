"""The demo data: the same from the same seed, shaped like a shop's log, and an oracle that knows its expectations."""

from __future__ import annotations

import multiprocessing
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from hyperdpo.errors import ConfigError, DataError
from hyperdpo.metrics import NDCG
from hyperdpo.objectives import Objective
from hyperdpo.rank import demo, demo_labels, demo_oracle, demo_words
from hyperdpo.rank.data import RankData, Task, open_data, write_folder
from hyperdpo.rank.demo import demo_origin, ensure_demo, make_demo, oracle
from hyperdpo.rank.evaluate import oracle_fronts
from hyperdpo.rank.live import ListTable

QUERIES = 60
FROZEN_SUMS = {
    "relevance": 3788.00,
    "clicks": 573.00,
    "purchases": 140.00,
    "quality": 8078.99,
    "freshness": 7117.44,
    "margin": 22419.73,
}
FROZEN_TEXTS = ["over-ear headphones", "power bank", "deep-tissue massage gun"]
FROZEN_TITLE = "Aurel Tempo One wireless headphones, sand"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> RankData:
    return make_demo(tmp_path_factory.mktemp("demo") / "data", queries=QUERIES)


@pytest.fixture(scope="module")
def log() -> demo._Log:
    """Enough queries for the bands that the design promises."""
    return demo._simulate(400, 0)


def empty_lists(log: demo._Log, name: str) -> float:
    starts = np.cumsum(log.sizes) - log.sizes
    return float((np.add.reduceat(log.columns[name], starts) == 0).mean())


# Making it


def test_the_same_seed_gives_the_same_data_and_another_seed_other_data(data: RankData, tmp_path: Path) -> None:
    again = make_demo(tmp_path / "again", queries=QUERIES)
    other = make_demo(tmp_path / "other", queries=QUERIES, seed=1)
    assert again.fingerprint == data.fingerprint != other.fingerprint
    for file in ("items.arrow", "queries.arrow", "truth.arrow"):
        assert (again.path / file).read_bytes() == (data.path / file).read_bytes()


def test_the_frozen_generator_has_not_moved() -> None:
    """Whoever changes these raises GENERATOR_VERSION. Sums, not bytes: a machine may round one value otherwise."""
    log = demo._simulate(QUERIES, 0)
    assert demo.GENERATOR_VERSION == 1
    sums = {name: float(log.columns[name].sum(dtype=np.float64)) for name in demo.LABELS}
    assert sums == pytest.approx(FROZEN_SUMS, rel=1e-4)
    assert log.texts[:3] == FROZEN_TEXTS
    assert log.titles[0] == FROZEN_TITLE


def test_names_shapes_and_roles(data: RankData) -> None:
    assert len(demo.FEATURES) == len(set(demo.FEATURES)) == 40
    assert data.task.features == demo.FEATURES
    assert data.task.main.column == "relevance"
    assert [o.name for o in data.task.objectives] == ["clicks", "purchases", "quality", "freshness", "margin"]
    assert [o.normalisation for o in data.task.objectives] == ["l1", "l1", "softmax", "softmax", "softmax"]
    assert data.columns == (*demo.FEATURES, *demo.LABELS)
    assert data.n_queries == QUERIES
    sizes = data.lists("all").sizes
    assert 30 <= int(sizes.min()) <= int(sizes.max()) <= 60
    assert [len(data.queries(s)) for s in ("train", "validation", "test")] == [36, 12, 12]
    assert data.manifest["origin"] == demo_origin(QUERIES, 0)


def test_values_are_in_range(data: RankData) -> None:
    assert all(np.isfinite(data.column(name)).all() for name in data.columns)
    assert set(np.unique(data.column("relevance"))) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    for name in ("clicks", "purchases"):
        counts = data.column(name)
        assert (counts >= 0).all()
        assert (counts == np.rint(counts)).all()
    assert (data.column("purchases") <= data.column("clicks")).all()
    for name, top in (("quality", 10), ("freshness", 10), ("margin", 100)):
        assert 0 <= data.column(name).min() < data.column(name).max() <= top
    assert not any(np.signbit(data.column(name)).any() for name in demo.LABELS)
    assert data.column("price_usd").min() > 0


def test_query_features_are_the_same_for_all_offers_of_a_list(data: RankData) -> None:
    for name in demo.FEATURES[:6]:
        assert all(len(set(part)) == 1 for part in np.split(data.column(name), data.offsets[1:-1]))


def test_sparsity_and_uninformative_lists(log: demo._Log) -> None:
    assert 0.05 < (log.columns["clicks"] > 0).mean() < 0.12
    assert 0.01 < (log.columns["purchases"] > 0).mean() < 0.045
    assert 0.0 < empty_lists(log, "clicks") < 0.07
    assert 0.15 < empty_lists(log, "purchases") < 0.40


def test_texts_agree_with_the_features(data: RankData) -> None:
    titles, prices = ([str(text) for text in data.text(name) or ()] for name in ("title", "price"))
    assert prices == [f"${price:,.2f}" for price in data.column("price_usd").tolist()]
    assert [" premium " in t for t in titles] == (data.column("product_tier") == 2).tolist()
    assert [t.endswith(", refurbished") for t in titles] == (data.column("refurbished") == 1).tolist()
    new = (data.column("days_listed") <= 30) & (data.column("refurbished") == 0)
    assert [t.endswith(", new") for t in titles] == new.tolist()
    assert [":" in t for t in titles] == (data.column("promo_words") > 0).tolist()
    assert [demo_words.OWN_BRAND in t for t in titles] == (data.column("own_brand") == 1).tolist()
    assert [len(t.split()) for t in titles] == data.column("title_length").tolist()
    first = data.column("query_length")[data.offsets[:-1]]
    assert [len(text.split()) for text in data.query_texts] == first.tolist()
    over = np.split(data.column("over_budget_log") > 0, data.offsets[1:-1])
    assert all("under $" in text for text, any_over in zip(data.query_texts, over, strict=True) if any_over.any())


def test_the_vocabulary_is_whole() -> None:
    words = demo_words.read_words()
    assert len(words.series) >= 12
    assert len(words.nouns) == 3 * len(words.series) == len(set(words.nouns))
    assert words.noun_adjectives.shape == (len(words.nouns), 5)
    assert {len(b) for b in words.brands} == {6}
    assert {len(s) for s in words.series} == {5}
    brands = [b for category in words.brands for b in category]
    assert len(set(brands)) == len(brands)
    assert (words.noun_category == np.arange(len(words.nouns)) // 3).all()


def test_bad_arguments_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"at least 10 queries.*got 3(.|\n)*A seed is.*got -1"):
        make_demo(tmp_path / "x", queries=3, seed=-1)
    assert not (tmp_path / "x").exists()


def test_progress_is_told(tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    make_demo(tmp_path / "x", queries=10, progress=lambda *step: said.append(step))
    assert [(done, whole) for _, done, whole in said] == [(0, 2), (1, 2), (2, 2)]


# The oracle


@dataclass(frozen=True)
class Seen:
    """What whole simulated logs showed: means and their standard errors (N,), and in how many logs a label was > 0."""

    p: torch.Tensor
    p_error: torch.Tensor
    gain: torch.Tensor
    gain_error: torch.Tensor
    rho: torch.Tensor
    labelled: torch.Tensor


def brute_force(data: RankData, objective: Objective, draws: int, k: int = 10) -> Seen:
    """Draw whole logs again and again, integrate nothing."""
    lists = data.lists("test")
    truth = demo_oracle.read_truth(data)
    padded = demo_labels.Lists.pad(truth, data.offsets[lists.query_index.numpy()], lists.sizes.numpy())
    mask = torch.from_numpy(padded.mask)
    rng = np.random.Generator(np.random.PCG64(99))
    logs = [demo_labels.draw_labels(rng, padded)[objective.column] for _ in range(draws)]
    labels, mask = torch.from_numpy(np.stack(logs)), mask.expand(draws, *mask.shape)
    targets, informative = objective.targets(labels, mask)
    gains = objective.gains(labels, mask)
    discount = 1 / torch.log2(torch.arange(2, k + 2))
    ideal = (gains.sort(-1, descending=True).values[..., :k] * discount).sum(-1, keepdim=True)
    gains = torch.where(ideal > 0, gains / ideal.clamp(min=1e-9), 0.0).double()
    flags = informative.double().unsqueeze(-1)
    count = flags.sum(0)
    p = (targets * flags).sum(0) / count
    p_error = ((targets - p).square() * flags).sum(0).sqrt() / count
    items = (p, p_error, gains.mean(0), gains.std(0) / draws**0.5)
    p, p_error, gain, gain_error = (lists.unpad(values) for values in items)
    return Seen(p, p_error, gain, gain_error, flags.mean(0).squeeze(-1), lists.unpad((labels > 0).sum(0)))


@pytest.mark.parametrize(
    "objective",
    [
        *demo.OBJECTIVES,
        demo.MAIN,
        Objective("mild", "clicks", "softmax", temperature=4.0),
        Objective("share", "quality", "l1"),
        Objective("cheap", "margin", "softmax", direction="min", standardise=False, temperature=5.0),
        Objective("smooth", "purchases", "l1", shift=1.0),
        Objective("few", "clicks", "l1", direction="min"),
    ],
    ids=lambda o: o.name,
)
def test_the_oracle_is_the_mean_over_many_simulated_logs(data: RankData, objective: Objective) -> None:
    draws = 1024
    known = oracle(data, objectives=[objective], draws=draws)
    seen = brute_force(data, objective, draws)
    usual = seen.labelled >= 40  # of rarer labels the estimated error says little
    assert usual.sum() > 80
    for ours, theirs, error in (
        (known.p[:, 0], seen.p, seen.p_error),
        (known.gain[:, 0], seen.gain, seen.gain_error),
    ):
        score = ((ours - theirs) / error)[usual]
        assert score.square().mean().sqrt() < 1.6, "two simulations of one truth differ by sqrt(2) errors"
        assert score.abs().max() < 8
    assert (known.rho[:, 0] - seen.rho).abs().max() < 4 * 0.5 / draws**0.5


def test_p_sums_to_one_is_positive_and_rho_is_a_chance(data: RankData) -> None:
    known = oracle(data)
    lists = data.lists("test")
    assert known.p.shape == known.gain.shape == (len(lists.features), 5)
    assert known.rho.shape == (len(lists), 5)
    assert known.main_gain.shape == (len(lists.features),)
    assert all(t.dtype == torch.float32 for t in (known.p, known.rho, known.gain, known.main_gain))
    assert (known.p > 0).all()
    torch.testing.assert_close(lists.pad(known.p).sum(1), torch.ones(len(lists), 5), atol=1e-5, rtol=0)
    assert (known.rho[:, 2:] == 1).all()
    assert ((known.rho[:, :2] > 0) & (known.rho[:, :2] < 1)).all()
    assert (known.rho[:, 1] < known.rho[:, 0]).all()
    assert torch.equal(known.query_index, lists.query_index)
    assert torch.equal(known.offsets, lists.offsets)


def test_the_mean_target_of_poisson_counts_by_hand() -> None:
    """Two sets of places, rates (1, 3) and (2, 0.5): p weighs each set by its chance of any count."""
    rates = np.array([[[1.0, 3.0, 0.0]], [[2.0, 0.5, 0.0]]])
    p, rho = demo_oracle._expected_counts(rates, np.array([[True, True, False]]))
    first, second = 1 - np.exp(-4.0), 1 - np.exp(-2.5)
    assert p[0] == pytest.approx([(first * 0.25 + second * 0.8) / (first + second),
                                  (first * 0.75 + second * 0.2) / (first + second), 0.0])  # fmt: skip
    assert rho[0] == pytest.approx((first + second) / 2)


def test_what_is_asked_together_does_not_change_the_answer(data: RankData) -> None:
    whole = oracle(data, draws=16)
    quality = oracle(data, draws=16, objectives=[data.task.objectives[2]])
    assert torch.equal(whole.p[:, 2], quality.p[:, 0])
    assert torch.equal(oracle(data, draws=16).gain, whole.gain)
    assert not torch.equal(oracle(data, draws=16, seed=5).p, whole.p)


def test_the_oracle_ranks_better_than_anything_else_does(tmp_path: Path) -> None:
    data = make_demo(tmp_path / "data", queries=300)
    known = oracle(data, "all", draws=64)
    lists = data.lists("all")
    ndcg = {
        o.name: NDCG(o.gains(lists.pad(lists.labels[:, 1 + j]), lists.mask())[..., None], lists.mask(), 10)
        for j, o in enumerate(data.task.objectives)
    }

    def value(name: str, scores: torch.Tensor) -> float:
        figure = ndcg[name].per_query(lists.pad(scores))
        return float(figure[figure.isfinite()].mean())

    noise = torch.rand(len(lists.features), generator=torch.Generator().manual_seed(0))
    names = [o.name for o in data.task.objectives]
    for j, name in enumerate(names):
        best = value(name, known.gain[:, j])
        assert best > value(name, noise) + 0.2
        for other in range(len(names)):
            if other != j:
                # Clicks and purchases go together to a degree; everything else pulls apart widely.
                gap = 0.07 if {j, other} == {0, 1} else 0.15
                assert best > value(name, known.gain[:, other]) + gap, (name, names[other])


def test_no_objective_copies_another_and_some_pull_apart(data: RankData) -> None:
    known = oracle(data, "all", draws=64)
    lists = data.lists("all")
    p = torch.cat([oracle(data, "all", draws=64, objectives=[demo.MAIN]).p, known.p], 1)
    padded, mask = lists.pad(p), lists.mask().unsqueeze(-1)
    centred = (padded - padded.sum(1, keepdim=True) / mask.sum(1, keepdim=True)) * mask
    unit = centred / centred.square().sum(1, keepdim=True).sqrt()
    correlation = torch.einsum("qni,qnj->ij", unit, unit) / len(lists)
    pairs = correlation[np.triu_indices(6, 1)]
    assert pairs.min() > -0.5
    assert pairs.max() < 0.68  # 60 lists; over many lists at most 0.6
    assert (pairs < -0.08).sum() >= 4


def test_reopened_from_disk_the_oracle_is_the_same(data: RankData) -> None:
    assert torch.equal(oracle(open_data(data.path), draws=16).p, oracle(data, draws=16).p)


def test_a_redeclared_task_is_followed(data: RankData) -> None:
    other = data.with_task(objectives=["quality", "old=freshness:min", "clicks"])
    known = oracle(other, draws=16)
    assert [o.name for o in known.objectives] == ["quality", "old", "clicks"]
    fresh = oracle(data, draws=16).p[:, 3]
    lists = data.lists("test")
    assert (lists.pad(fresh).argmax(1) != lists.pad(known.p[:, 1]).argmax(1)).all()


def test_only_simulated_data_has_an_oracle(tmp_path: Path) -> None:
    other = write_folder(
        tmp_path / "files",
        columns={"f": np.arange(4.0), "label": np.arange(4.0), "clicks": np.ones(4)},
        sizes=np.array([2, 2]),
        qids=["a", "b"],
        split=np.array([0, 2], np.uint8),
        task=Task(Objective("label", "label"), (Objective("clicks", "clicks", "l1"),), ("f",)),
        name="x",
        origin={"kind": "files"},
    )
    with pytest.raises(DataError, match="only simulated data has an oracle"):
        oracle(other)


def test_an_objective_that_is_no_simulated_label_is_named(data: RankData) -> None:
    with pytest.raises(ConfigError, match=r"'rating_mean' is not a simulated label(.|\n)*got 0"):
        oracle(data.with_task(objectives=["rating_mean"]), draws=0)


def test_truth_of_another_version_or_cut_short_is_refused(data: RankData, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data.path, copy)
    opened = open_data(copy)
    opened.manifest["origin"]["generator_version"] = 2
    with pytest.raises(DataError, match="generator version 2"):
        oracle(opened)
    opened.manifest["origin"]["generator_version"] = 1
    (copy / "truth.arrow").write_bytes((data.path / "truth.arrow").read_bytes()[:2000])
    with pytest.raises(DataError, match=r"truth\.arrow is damaged"):
        oracle(opened)


# The cache


def test_ensure_demo_makes_once_and_reuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: RankData) -> None:
    monkeypatch.delenv("HYPERDPO_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = ensure_demo(demo_origin(QUERIES, 0))
    assert folder.parent == tmp_path / "hyperdpo"
    assert open_data(folder).fingerprint == data.fingerprint
    monkeypatch.setattr(demo, "make_demo", lambda *_: pytest.fail("made a second time"))
    assert ensure_demo(demo_origin(QUERIES, 0)) == folder
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_ensure_demo_mends_a_damaged_copy(tmp_path: Path, data: RankData) -> None:
    folder = ensure_demo(demo_origin(10, 3), tmp_path)
    (folder / "truth.arrow").write_bytes(b"half")
    assert ensure_demo(demo_origin(10, 3), tmp_path) == folder
    assert oracle(open_data(folder), draws=2).draws == 2
    (folder / "data.json").unlink()
    ensure_demo(demo_origin(10, 3), tmp_path)
    assert open_data(folder).n_queries == 10


def test_two_processes_at_once_leave_one_sound_copy(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=ensure_demo, args=(demo_origin(40, 1), tmp_path)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 1
    open_data(ensure_demo(demo_origin(40, 1), tmp_path)).verify()


def test_ensure_demo_keeps_the_copy_another_process_put_there_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = demo_origin(10, 0)
    make = demo.make_demo

    def overtaken(*arguments: object) -> RankData:
        monkeypatch.setattr(demo, "make_demo", make)
        ensure_demo(origin, tmp_path)
        return make(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(demo, "make_demo", overtaken)
    folder = ensure_demo(origin, tmp_path)
    assert list(tmp_path.iterdir()) == [folder]
    open_data(folder).verify()


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ({"kind": "files"}, "Only demo data can be made again"),
        ({**demo_origin(), "generator_version": 9}, "generator version 9"),
        ({**demo_origin(), "queries": "many", "seed": None}, r"'queries'; got 'many'(.|\n)*'seed'; got None"),
    ],
)
def test_origins_that_cannot_be_made_are_refused(origin: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        ensure_demo(origin, tmp_path)


def test_a_cache_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="set HYPERDPO_CACHE"):
        ensure_demo(demo_origin(10), tmp_path / "file")


def test_no_oracle_front_where_a_feature_is_an_objective(data: RankData) -> None:
    declared = data.with_task(objectives=["discount", "quality"])
    table = ListTable(
        declared.lists("test"), declared.task, torch.zeros(len(declared.lists("test").labels)), (1.0, 1.0)
    )
    assert oracle_fronts(declared, table, split="test") == []
    plain = data.with_task(objectives=["quality", "margin"])
    table = ListTable(plain.lists("test"), plain.task, torch.zeros(len(plain.lists("test").labels)), (1.0, 1.0))
    assert [front.method for front in oracle_fronts(plain, table, split="test")] == ["oracle", "oracle-unconstrained"]
