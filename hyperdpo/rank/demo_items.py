"""The queries and offers of the simulated marketplace: the 40 numbers a model may see.

Frozen as all of the generator is (`demo`): whoever changes a number raises `GENERATOR_VERSION`. Arrays over items have
shape (N,), over queries (Q,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from hyperdpo.rank.demo_words import Array, Columns, Words, item_titles, query_text

GENERATOR_VERSION = 1
LIST_SIZES = (30, 60)
BUDGETS = np.array(
    [10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 150, 200, 250, 300, 400, 500, 600, 800, 1000], dtype=float
)

FEATURES = (
    # The query and who asks: the same for every offer of a list
    "query_length",
    "query_frequency_log",
    "query_specificity",
    "user_price_sensitivity",
    "user_tenure_years",
    "device_mobile",
    # How the offer answers the query
    "title_match",
    "category_match",
    "attribute_match",
    "brand_match",
    "description_match",
    "semantic_similarity",
    "over_budget_log",
    # The offer
    "price_usd",
    "price_vs_category_log",
    "price_rank_in_list",
    "discount",
    "own_brand",
    "free_shipping",
    "shipping_days",
    "stock",
    "product_tier",
    "refurbished",
    # Reputation
    "rating_mean",
    "rating_count",
    "complaint_rate",
    "return_rate",
    "seller_rating",
    "seller_sales",
    "seller_age_years",
    # Presentation
    "image_quality",
    "image_count",
    "description_length",
    "title_length",
    "promo_words",
    # Age and popularity
    "days_listed",
    "days_since_update",
    "sales_30d",
    "historical_ctr",
    # Nothing depends on it
    "warehouse_region",
)


@dataclass(frozen=True)
class Queries:
    """All queries. -1 stands for "not named" in `adjectives` (Q, 2), `brand` and `use`; `budget` is inf without one."""

    sizes: Array
    noun: Array
    adjectives: Array
    brand: Array
    use: Array
    budget: Array
    texts: list[str]
    columns: Columns


def draw_queries(rng: Generator, words: Words, queries: int) -> Queries:
    noun = rng.integers(len(words.nouns), size=queries)
    sensitivity = _kept(rng.beta(2.0, 2.0, queries), 3)
    named = np.digitize(rng.random(queries), [0.25, 0.85])  # how many adjectives: 0, 1 or 2
    first = rng.integers(5, size=queries)
    second = (first + rng.integers(1, 5, size=queries)) % 5
    places = np.sort(np.stack([first, second], 1), 1)  # two adjectives keep the vocabulary's order, which reads well
    places = np.where((named == 2)[:, None], places, first[:, None])
    adjectives = np.take_along_axis(words.noun_adjectives[noun], places, 1)
    adjectives[named < 1, 0] = -1
    adjectives[named < 2, 1] = -1
    brand = np.where(rng.random(queries) < 0.15, rng.integers(6, size=queries), -1)
    use = np.where(rng.random(queries) < 0.15, rng.integers(3, size=queries), -1)
    wanted = words.noun_price[noun] * np.exp(0.35 * rng.standard_normal(queries) + 0.4 * (0.5 - sensitivity))
    budget = BUDGETS[np.abs(np.log(BUDGETS[None]) - np.log(wanted)[:, None]).argmin(1)]
    budget = np.where(rng.random(queries) < 0.10 + 0.35 * sensitivity, budget, np.inf)
    style = rng.random(queries)
    texts = [
        query_text(words, *row) for row in zip(noun, adjectives, brand, use, budget, sensitivity, style, strict=True)
    ]
    details = named + (brand >= 0) + (use >= 0) + np.isfinite(budget)
    columns = {
        "query_length": np.array([len(text.split()) for text in texts], dtype=float),
        "query_frequency_log": _kept(7.0 - 0.35 * details + 0.9 * rng.standard_normal(queries), 3),
        "query_specificity": _kept(np.clip(0.2 * details + 0.08 * rng.standard_normal(queries), 0, 1), 3),
        "user_price_sensitivity": sensitivity,
        "user_tenure_years": _kept(rng.exponential(3.0, queries), 2),
        "device_mobile": (rng.random(queries) < 0.6).astype(float),
    }
    sizes = rng.integers(LIST_SIZES[0], LIST_SIZES[1] + 1, size=queries)
    return Queries(sizes, noun, adjectives, brand, use, budget, texts, columns)


def draw_items(rng: Generator, words: Words, queries: Queries) -> tuple[Columns, list[str]]:
    """The 40 feature columns (float64, rounded) and the titles of all offers.

    Offers have traits that no column shows (true quality, flashiness, appeal); columns are noisy looks at them.
    """
    at = np.repeat(np.arange(len(queries.sizes)), queries.sizes)
    count = len(at)
    normal, uniform = rng.standard_normal, rng.random
    columns = {name: values[at] for name, values in queries.columns.items()}
    what = _draw_products(rng, words, queries, at)
    columns |= _match_columns(rng, queries, what, at)

    tier = np.digitize(uniform(count), [0.35, 0.80]).astype(float)
    own = what["own_brand"]
    refurbished = (uniform(count) < 0.06).astype(float)
    days = np.clip(np.rint(np.exp(4.9 + 1.35 * normal(count))), 1, 3000)
    quality = normal(count) + 0.45 * (tier - 1) - 0.5 * refurbished - 0.35 * own
    flash = normal(count) - 0.35 * quality
    appeal = normal(count) + 0.25 * quality
    age = np.log(days / 150)

    columns |= _price_columns(rng, queries, what, at, tier, refurbished, quality, flash)
    columns |= _reputation_columns(rng, quality, appeal, age, refurbished)
    promo = np.digitize(flash + 1.2 * columns["discount"] + 0.5 * normal(count), [0.8, 1.5, 2.2])
    titles = item_titles(rng, words, what, tier.astype(int), refurbished, days, promo)
    sales_log = 0.8 + 0.65 * appeal + 0.70 * age - 0.5 * columns["price_vs_category_log"] + 0.5 * normal(count)
    columns |= {
        "own_brand": own,
        "product_tier": tier,
        "refurbished": refurbished,
        "image_quality": _kept(sigmoid(0.8 * flash + 0.3 * tier + 0.7 * normal(count) - 0.2), 3),
        "image_count": 1.0 + rng.poisson(3.5, count),
        "description_length": np.rint(np.exp(4.6 + 0.7 * normal(count))),
        "title_length": np.array([len(title.split()) for title in titles], dtype=float),
        "promo_words": promo.astype(float),
        "days_listed": days,
        "days_since_update": np.rint(np.minimum(days, np.exp(2.8 + 1.1 * normal(count)))),
        "sales_30d": np.floor(np.exp(sales_log)),
        "historical_ctr": _kept(
            sigmoid(-3.1 + 0.3 * appeal + 0.35 * flash + 0.8 * columns["discount"] + 0.25 * normal(count)), 4
        ),
        "warehouse_region": rng.integers(1, 10, count).astype(float),
        "stock": np.floor(np.exp(3.0 + 1.2 * normal(count))),
    }
    return {name: columns[name] for name in FEATURES}, titles


def _draw_products(rng: Generator, words: Words, queries: Queries, at: Array) -> Columns:
    """What each offer is: noun, adjectives (N, 2), brand; mostly the noun asked for, sometimes a neighbour."""
    count = len(at)
    asked = queries.noun[at]
    sibling = 3 * (asked // 3) + (asked % 3 + rng.integers(1, 3, count)) % 3  # nouns come in threes
    stray = rng.integers(len(words.nouns), size=count)
    kind = rng.random(count)
    noun = np.where(kind < 0.60, asked, np.where(kind < 0.87, sibling, stray))
    places = np.stack([rng.integers(5, size=count), rng.integers(1, 5, size=count)], 1)
    places[:, 1] = places.sum(1) % 5
    adjectives = np.take_along_axis(words.noun_adjectives[noun], np.sort(places, 1), 1)
    wanted = queries.adjectives[at, 0]  # retrieval prefers offers that say what was asked
    able = (noun == asked) & (wanted >= 0) & (adjectives != wanted[:, None]).all(1) & (rng.random(count) < 0.30)
    adjectives[able, 0] = wanted[able]
    brand = rng.integers(6, size=count)
    same = (queries.brand[at] >= 0) & (noun // 3 == asked // 3) & (rng.random(count) < 0.3)
    brand = np.where(same, queries.brand[at], brand)
    own = rng.random(count) < 0.12
    return {
        "noun": noun,
        "adjectives": adjectives,
        "brand": np.where(own, -1, brand),
        "own_brand": own.astype(float),
        "usual_price": words.noun_price[noun],
    }


def _match_columns(rng: Generator, queries: Queries, what: Columns, at: Array) -> Columns:
    count = len(at)
    asked = queries.noun[at]
    category = np.where(what["noun"] == asked, 1.0, np.where(what["noun"] // 3 == asked // 3, 0.5, 0.0))
    wanted = queries.adjectives[at]
    named = (wanted >= 0).sum(1)
    hits = ((wanted[:, :, None] == what["adjectives"][:, None, :]) & (wanted >= 0)[:, :, None]).any(2).sum(1)
    brand = ((queries.brand[at] >= 0) & (what["brand"] == queries.brand[at]) & (category > 0)).astype(float)
    share = (1.5 * (category == 1) + hits + brand) / (1.5 + named + (queries.brand[at] >= 0))
    title = np.clip(share + 0.06 * rng.standard_normal(count), 0, 1)
    attribute = np.where(named > 0, hits / np.maximum(named, 1), 0.0)
    similarity = 0.10 + 0.40 * category + 0.15 * attribute + 0.12 * rng.standard_normal(count)
    return {
        "title_match": _kept(title, 3),
        "category_match": category,
        "attribute_match": attribute,
        "brand_match": brand,
        "description_match": _kept(np.exp(1.4 * title + 0.6 * rng.standard_normal(count)), 3),
        "semantic_similarity": _kept(np.clip(similarity, -1, 1), 4),
    }


def _price_columns(
    rng: Generator, queries: Queries, what: Columns, at: Array, tier: Array, refurbished: Array, quality: Array,
    flash: Array,
) -> Columns:  # fmt: skip
    count = len(at)
    level = 0.40 * (tier - 1) + 0.04 * quality + 0.05 * what["own_brand"] - 0.35 * refurbished
    full = what["usual_price"] * np.exp(level + 0.33 * rng.standard_normal(count))
    discounted = rng.random(count) < sigmoid(-0.5 + 0.8 * flash)
    discount = np.where(discounted, 0.6 * rng.beta(1.6, 2.4, count), 0.0)
    price = np.maximum(np.rint(full * (1 - discount)) - np.where(rng.random(count) < 0.8, 0.01, 0.50), 1.99)
    relative = np.log(price / what["usual_price"])
    shipping = 1.0 + rng.poisson(2.5, count)
    return {
        "price_usd": price,
        "price_vs_category_log": _kept(relative, 4),
        "price_rank_in_list": _kept(_rank_in_list(price, at, queries.sizes), 3),
        "over_budget_log": _kept(np.maximum(np.log(price) - np.log(queries.budget[at]), 0.0), 4),
        "discount": _kept(discount, 2),
        "free_shipping": (rng.random(count) < sigmoid(0.8 * relative - 0.2)).astype(float),
        "shipping_days": shipping,
    }


def _reputation_columns(rng: Generator, quality: Array, appeal: Array, age: Array, refurbished: Array) -> Columns:
    count = len(quality)
    normal = rng.standard_normal
    reviews = np.floor(np.exp(2.6 + 0.8 * appeal + 0.9 * age + 0.4 * normal(count)))
    rating = np.clip(4.0 + 0.38 * quality + 0.9 * normal(count) / np.sqrt(1 + reviews), 1, 5)
    return {
        "rating_count": reviews,
        "rating_mean": _kept(np.where(reviews > 0, rating, 4.0), 1),  # 4.0, the shop's average, until reviewed
        "complaint_rate": _kept(np.minimum(np.exp(-4.2 - 0.5 * quality + 0.7 * normal(count)), 0.5), 4),
        "return_rate": _kept(sigmoid(-2.4 - 0.4 * quality + 0.5 * refurbished + 0.35 * normal(count)), 4),
        "seller_rating": _kept(np.clip(4.2 + 0.22 * quality + 0.3 * normal(count), 1, 5), 2),
        "seller_sales": np.rint(np.exp(6.5 + 1.8 * normal(count))),
        "seller_age_years": _kept(rng.exponential(4.0, count), 1),
    }


def sigmoid(values: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-values))


def _kept(values: Array, decimals: int) -> Array:
    """Rounded: what is stored is short to read and the same on every machine."""
    return np.round(values, decimals)


def _rank_in_list(values: Array, at: Array, sizes: Array) -> Array:
    """0 for the lowest value of its list to 1 for the highest, (N,); ties in input order."""
    order = np.lexsort((values, at))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rank = np.empty(len(values))
    rank[order] = np.arange(len(values)) - np.repeat(starts, sizes)
    relative: Array = rank / np.repeat(np.maximum(sizes - 1, 1), sizes)
    return relative
