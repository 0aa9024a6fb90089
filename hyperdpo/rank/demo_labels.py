"""The labels of the simulated marketplace: the parameters each is drawn with (the truth), and the draws.

Frozen as all of the generator is (`demo`). Lists are padded to (q, n); draws come first: (draws, q, n).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from hyperdpo.objectives import Objective
from hyperdpo.rank.demo_items import FEATURES, sigmoid
from hyperdpo.rank.demo_words import Array, Columns

EXAMINATION_DECAY = 0.6
"""An offer in place r (from 1) is looked at with probability r ** -0.6."""
LOGGING_NOISE = 0.5
"""Standard deviation of the noise in the old ranking, in units of its score."""

MAIN = Objective("relevance", "relevance", "softmax")
OBJECTIVES = (
    Objective("clicks", "clicks", "l1"),
    Objective("purchases", "purchases", "l1"),
    Objective("quality", "quality"),
    Objective("freshness", "freshness"),
    Objective("margin", "margin"),
)
LABELS = ("relevance", "clicks", "purchases", "quality", "freshness", "margin")

DENSE = {"relevance": (4.0, 0), "quality": (10.0, 2), "freshness": (10.0, 2), "margin": (100.0, 2)}
"""Labels drawn as a rounded normal: the highest value and the decimals kept. The lowest value is 0."""

TRUTH = (
    *(f"{name}_{part}" for name in DENSE for part in ("mean", "sd")),
    "click_rate",
    "buy_given_click",
    "logging_score",
)
"""The columns of `truth.arrow`: all that labels are drawn from, float32, one row an item."""


def latents(columns: Columns) -> Columns:
    """The truth: parameters of every label, float32 (N,), functions of the 40 float32 features and nothing else."""
    x = {name: columns[name].astype(np.float64) for name in FEATURES}
    trust = x["rating_count"] / (x["rating_count"] + 20)
    reputation = trust * (x["rating_mean"] - 4.0)
    relevance = _relevance(x, reputation)
    truth = {"relevance_mean": relevance, "relevance_sd": np.full_like(relevance, 0.8)}
    truth |= _quality(x, trust, reputation) | _freshness(x) | _margin(x)
    truth |= _demand(x, relevance, reputation)
    return {name: truth[name].astype(np.float32) for name in TRUTH}


def _relevance(x: Columns, reputation: Array) -> Array:
    """The mean grade, 0 to 4: the right product, with what was asked for, at a price that suits this user."""
    sensitivity = x["user_price_sensitivity"]
    suits = -np.square(x["price_vs_category_log"] + 0.15 - 1.2 * (0.5 - sensitivity))
    answers = (
        2.4 * x["category_match"] ** 2
        + 2.4 * x["category_match"] * x["attribute_match"] * (0.3 + x["query_specificity"])
        + 1.5 * x["brand_match"] * sigmoid(x["user_tenure_years"] - 2.0)
        + 1.5 * x["semantic_similarity"]
        + 0.3 * x["title_match"] * np.log1p(x["description_match"])
    )
    appeal = (
        answers
        + (0.3 + 0.8 * x["category_match"]) * np.maximum(suits, -1.5)
        - 1.5 * np.minimum(x["over_budget_log"], 0.5) / 0.5 * (0.4 + sensitivity)
        + 0.9 * reputation * (1.2 - x["query_specificity"])
        + 0.8 * x["refurbished"] * (sensitivity - 0.7)
    )
    return 4.0 * sigmoid(1.25 * (appeal - 3.6))


def _demand(x: Columns, relevance: Array, reputation: Array) -> Columns:
    """Clicks per look, purchases per click and the score by which the old ranking placed the offers.

    Loud offers draw thrifty users and put others off; those new to the shop follow the crowd.
    """
    sensitivity = x["user_price_sensitivity"]
    thrift = sensitivity - 0.3
    dear = np.maximum(x["price_vs_category_log"], 0.0)
    popular = np.log1p(x["sales_30d"])
    crowd = 0.25 + 0.25 * np.exp(-x["user_tenure_years"] / 2.0)
    attraction = (
        0.26 * relevance
        + 2.2 * np.sqrt(x["discount"]) * (0.2 + 1.2 * thrift)
        + 1.5 * np.sqrt(x["promo_words"]) * (0.25 + thrift) * (1.2 - 0.4 * x["product_tier"])
        + 2.0 * (x["image_quality"] - 0.5) * (0.4 + 0.8 * x["device_mobile"])
        - 1.0 * np.square(np.maximum(x["image_quality"] - 0.6, 0)) * x["promo_words"]
        + 10.0 * np.minimum(x["historical_ctr"], 0.12)
        + crowd * (popular - 1.2)
        - 1.2 * dear * sensitivity
        + 0.3 * dear * (x["product_tier"] == 2) * (1 - sensitivity)
    )
    conviction = (
        -1.3
        + 0.30 * relevance
        - 1.8 * (x["price_vs_category_log"] + 0.2) * (0.3 + 1.2 * sensitivity)
        + 3.2 * reputation
        + 1.2 * x["free_shipping"]
        - 0.12 * np.square(np.maximum(x["shipping_days"] - 2.0, 0)) * (1.1 - 0.5 * x["free_shipping"])
        - 0.5 * x["refurbished"]
        - 1.3 * (x["promo_words"] - 0.5) * (1.2 - sensitivity)
        - 3.5 * (x["image_quality"] - 0.5)
        - 0.9 * np.minimum(x["over_budget_log"], 1.0)
    )
    volume = np.exp(0.30 * (x["query_frequency_log"] - 6.5))
    return {
        "click_rate": 0.066 * volume * np.exp(attraction),
        "buy_given_click": sigmoid(conviction),
        "logging_score": 0.22 * relevance + 0.35 * popular + 4.0 * np.minimum(x["historical_ctr"], 0.15),
    }


def _quality(x: Columns, trust: Array, reputation: Array) -> Columns:
    """An editor's score, 0 to 10, surer where there are many reviews.

    Stars count as far as there are reviews behind them; promotion together with a discount looks like bait.
    """
    established = sigmoid(x["seller_age_years"] - 3.0)
    described = np.log(x["description_length"] / 110.0)
    merit = (
        -2.0
        + 3.2 * reputation
        + 2.8 * trust
        + 0.25 * (x["product_tier"] - 1)
        + 1.6 * (x["seller_rating"] - 4.2) * established
        - 14.0 * np.maximum(x["return_rate"] - 0.10, 0)
        - 22.0 * np.maximum(np.minimum(x["complaint_rate"], 0.12) - 0.02, 0)
        - 0.60 * x["promo_words"]
        - 4.0 * x["discount"] * (x["promo_words"] > 0)
        - 0.9 * x["own_brand"] * (x["product_tier"] < 2)
        - 0.6 * x["refurbished"] * (x["seller_rating"] < 4.3)
        - 0.35 * np.minimum(np.square(described), 2.0)
    )
    return {"quality_mean": 10.0 * sigmoid(1.2 * (merit + 0.6)), "quality_sd": 1.5 + 1.2 * (1 - trust)}


def _freshness(x: Columns) -> Columns:
    """How new the offer feels, 0 to 10: newly listed (premium goods stay new longer), lately renewed, or taking off."""
    lasting = 30.0 * 2.2 ** x["product_tier"] * (1.0 + 0.5 * x["device_mobile"])
    new = 7.0 * np.exp(-x["days_listed"] / lasting) * (1 - 0.6 * x["refurbished"])
    renewed = 2.5 * np.exp(-x["days_since_update"] / 8.0) * (x["image_count"] >= 4)
    rising = 1.8 * sigmoid(2.0 * (np.log1p(x["sales_30d"]) - 0.6 * np.log1p(x["rating_count"]) - 0.6))
    return {"freshness_mean": new + renewed + rising, "freshness_sd": 1.5 + 0.12 * new}


def _margin(x: Columns) -> Columns:
    """What the shop keeps of a sale, in per cent of the price.

    More on own brands and dear offers, and from sellers who pay for promotion or have no standing yet; less on what is
    discounted; a parcel sent free costs the same for a cheap offer as for a dear one.
    """
    newcomer = np.exp(-x["seller_age_years"] / 2.0)
    share = (
        0.07
        + 0.10 * x["own_brand"] * (1 + 0.5 * x["product_tier"])
        + 0.14 * x["price_vs_category_log"]
        + 0.06 * x["promo_words"] * (1 - x["own_brand"]) * (0.6 + newcomer)
        - 0.30 * x["discount"] * (1 - 0.6 * x["own_brand"])
        - np.minimum(2.5 * x["free_shipping"] / x["price_usd"], 0.20)
        - 0.12 * (x["seller_rating"] - 4.2) * (0.6 + newcomer)
        + 0.04 * x["refurbished"]
    )
    kept = 100.0 * 0.05 * np.logaddexp(0.0, share / 0.05)  # a soft floor at 0
    return {"margin_mean": kept, "margin_sd": 3.0 + 0.25 * kept}


@dataclass(frozen=True)
class Lists:
    """Some lists' truth, padded: `truth[name]` (q, n) float32 with 0 on pads, `mask` (q, n) bool."""

    truth: Columns
    mask: Array

    @classmethod
    def pad(cls, truth: Columns, starts: Array, sizes: Array) -> Lists:
        place = np.arange(sizes.max())
        mask = place < sizes[:, None]
        index = np.where(mask, starts[:, None] + place, 0)
        return cls({name: np.where(mask, values[index], np.float32(0)) for name, values in truth.items()}, mask)


def draw_dense(rng: Generator, lists: Lists, name: str, draws: int) -> Array:
    top, decimals = DENSE[name]
    labels = rng.standard_normal((draws, *lists.mask.shape), dtype=np.float32)
    labels *= lists.truth[f"{name}_sd"]
    labels += lists.truth[f"{name}_mean"]
    unit = np.float32(10**decimals)
    labels *= unit
    np.rint(labels, out=labels)
    labels /= unit
    np.clip(labels, 0, top, out=labels)
    labels += np.float32(0)  # no -0.0
    return labels


def _draw_examination(rng: Generator, lists: Lists, draws: int) -> Array:
    """The chance that each offer is looked at, float32 (draws, q, n): the old ranking is its score plus noise."""
    noise = rng.standard_normal((draws, *lists.mask.shape), dtype=np.float32)
    score = np.where(lists.mask, lists.truth["logging_score"] + np.float32(LOGGING_NOISE) * noise, -np.inf)
    order = np.argsort(-score, axis=-1)
    looked = np.arange(1, score.shape[-1] + 1, dtype=np.float32) ** np.float32(-EXAMINATION_DECAY)
    examination = np.empty_like(score, dtype=np.float32)
    np.put_along_axis(examination, order, np.broadcast_to(looked, order.shape), -1)
    return examination


def draw_labels(rng: Generator, lists: Lists) -> Columns:
    """One joint draw of all six labels, each float32 (q, n)."""
    labels = {name: draw_dense(rng, lists, name, 1)[0] for name in DENSE}
    looks = lists.truth["click_rate"] * _draw_examination(rng, lists, 1)[0]
    bought = looks * lists.truth["buy_given_click"]
    purchases = rng.poisson(bought)
    labels["purchases"] = purchases.astype(np.float32)
    labels["clicks"] = (purchases + rng.poisson(looks - bought)).astype(np.float32)
    return {name: labels[name] for name in LABELS}


def count_rates(rng: Generator, lists: Lists, name: str, draws: int) -> Array:
    """Poisson rates of `clicks` or `purchases` under drawn places, float32 (draws, q, n), 0 on pads.

    Purchases are clicks thinned at random, so each of the two alone is an independent Poisson count per offer.
    """
    rate = lists.truth["click_rate"] * _draw_examination(rng, lists, draws)
    return rate * lists.truth["buy_given_click"] if name == "purchases" else rate
