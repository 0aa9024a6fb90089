"""A simulated marketplace log that the package makes itself, and the best any model of its features could do.

Every query shows 30 to 60 offers. All numbers a model may see are drawn first; then `_latents` computes, from those
40 numbers alone, the parameters every label is drawn with (`truth.arrow`). What is random after that (the place the old
ranking gave an offer, clicks, purchases, raters' noise) is independent given the features. So the expected label
distribution ``p = E[t(z) | features]`` is known up to the error of a simulation, and `oracle` computes it.

The objectives pull apart as they do in a shop: clicks follow flashy, discounted, popular offers; purchases follow value
for money; quality follows many good reviews and shuns promotion; freshness wants new listings, which have no reviews
yet; margin wants expensive and own-brand offers.

The numbers in this file are frozen: whoever changes one raises `GENERATOR_VERSION`, because runs name the version they
were trained on. All randomness comes from NumPy's PCG64; values are rounded where they are stored, so that the last bit
of one machine's `exp` does not show. Arrays over items have shape (N,), over queries (Q,).
"""

from __future__ import annotations

import contextlib
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from hyperdpo.errors import ConfigError, DataError, nearest
from hyperdpo.files import user_cache
from hyperdpo.objectives import Objective
from hyperdpo.rank.data import RankData, Task, open_data, write_folder
from hyperdpo.rank.oracle import ORACLE_CHUNK, ORACLE_SEED, Oracle, expected_gain, expected_targets
from hyperdpo.rank.reading import Progress

GENERATOR_VERSION = 1
DEFAULT_QUERIES = 3000
DEFAULT_SEED = 0
MIN_QUERIES = 10
"""Fewer cannot be split 60/20/20 into usable parts."""

DEFAULT_DRAWS = 256

TRUTH_FILE = "truth.arrow"
LIST_SIZES = (30, 60)
EXAMINATION_DECAY = 0.6
"""An offer in place r (from 1) is looked at with probability r ** -0.6."""
LOGGING_NOISE = 0.5
"""Standard deviation of the noise in the old ranking, in units of its score."""

Array = NDArray[Any]
Columns = dict[str, Array]

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


# ---------------------------------------------------------------------------------------------------------------------
# Words. A category: name | series | brands | colours | uses; then its nouns: noun @ usual price: five adjectives.
# All brands are invented.

OWN_BRAND = "Plenvo"
TIER_WORDS = (("Lite", "Go", "Core"), ("Plus", "Flex", "One"), ("Pro", "Elite", "Max"))
PROMO_PREFIX = ("", "Sale: ", "Hot deal: ", "Hot deal today: ")
BUDGETS = np.array(
    [10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 150, 200, 250, 300, 400, 500, 600, 800, 1000], dtype=float
)

VOCABULARY = """
audio | Sonic Pulse Echo Tempo Chord | Aurel Quorvex Ostavia Zennick Halvenn Trivane | black,white,navy,sand
  | commuting,the office,travel
  headphones @ 75: wireless, noise cancelling, over-ear, foldable, lightweight
  earbuds @ 50: wireless, waterproof, noise cancelling, compact, low-latency
  portable speaker @ 60: waterproof, bluetooth, compact, rugged, stereo
running | Stride Glide Swift Terra Dash | Velquo Marrowby Tarsine Kestovia Ferrun Ilmarra | black,blue,coral,grey
  | beginners,marathon training,flat feet
  running shoes @ 85: wide, cushioned, lightweight, breathable, waterproof
  trail shoes @ 95: waterproof, wide, grippy, lightweight, cushioned
  running jacket @ 70: reflective, waterproof, windproof, packable, breathable
coffee | Roma Crema Aroma Brio Alba | Cindral Bruvetto Pelmura Nuvessa Orlisk Caffrano | black,steel,cream,red
  | small kitchens,the office,two people
  espresso machine @ 220: compact, automatic, quiet, stainless steel, programmable
  drip coffee maker @ 65: programmable, thermal, compact, glass, quiet
  coffee grinder @ 45: electric, manual, ceramic, quiet, adjustable
office | Axis Form Poise Vertex Line | Drostel Ergovanne Sitwell-Rae Lumiquay Tulvane Norrabel | black,grey,oak,white
  | home offices,tall people,back pain
  office chair @ 180: ergonomic, mesh, adjustable, leather, swivel
  standing desk @ 320: electric, adjustable, compact, wooden, quiet
  desk lamp @ 35: dimmable, LED, foldable, rechargeable, clip-on
bags | Roam Drift Harbor Trek Vista | Wexhollow Orrisk Tavoru Packwren Solquin Lindeval | black,olive,navy,tan
  | work,weekend trips,school
  backpack @ 65: waterproof, lightweight, anti-theft, canvas, expandable
  carry-on suitcase @ 120: hard-shell, lightweight, expandable, four-wheel, carbon
  messenger bag @ 55: leather, canvas, waterproof, slim, padded
kitchen | Chef Forge Ember Basil Hearth | Kantorre Brevanto Ovelti Hestrel Mirozza Stelvar | black,steel,copper,green
  | beginners,induction hobs,small kitchens
  frying pan @ 40: non-stick, cast iron, ceramic, induction, deep
  chef's knife @ 55: stainless steel, Japanese-style, forged, lightweight, sharp
  blender @ 80: quiet, glass, high-speed, compact, cordless
outdoor | Ridge Summit Fjord Cedar Boreal | Nordrell Vantello Pinemark-Ro Ashgrun Kaldris Tarnwood | green,orange,grey
  | families,winter,backpacking
  tent @ 150: waterproof, lightweight, pop-up, four-person, insulated
  sleeping bag @ 75: warm, lightweight, compact, wide, down
  winter jacket @ 130: waterproof, insulated, hooded, lightweight, down
cycling | Spoke Apex Rondo Cadence Loop | Ternby Ciclara Veloquist Ruvanne Brakko Pedrelle | black,white,red,lime
  | commuting,kids,road bikes
  bike helmet @ 60: lightweight, ventilated, foldable, reflective, adjustable
  bike light @ 25: rechargeable, LED, waterproof, bright, clip-on
  bike lock @ 40: foldable, heavy-duty, keyless, lightweight, steel
games | Quest Realm Orbit Ember Atlas | Fablewick Dicelune Kobbolt Meepleton Rookfern Zandoria | standard,deluxe,travel
  | families,two players,parties
  board game @ 40: cooperative, family, strategy, fast, classic
  jigsaw puzzle @ 20: 1000-piece, wooden, panoramic, family, vintage
  card game @ 18: fast, family, cooperative, trivia, classic
phone | Aero Shield Slate Prism Halo | Casperine Guardelle Mobivar Tekluna Ampriso Linkora | clear,black,blue,lilac
  | travel,the car,work
  phone case @ 22: slim, rugged, magnetic, leather, transparent
  phone charger @ 28: wireless, fast, compact, foldable, USB-C
  power bank @ 40: slim, fast, magnetic, solar, high-capacity
garden | Meadow Bloom Fern Willow Sprout | Gartelle Verdimoor Rootwin Hedgelyn Florabec Sodwick | green,terracotta,grey
  | balconies,small gardens,beginners
  garden hose @ 35: expandable, kink-free, heavy-duty, lightweight, flat
  lawn mower @ 260: cordless, electric, quiet, self-propelled, compact
  plant pot @ 20: ceramic, self-watering, hanging, terracotta, large
wellness | Zen Flow Balance Calm Lotus | Yogaline-Su Serenova Tranvelle Posturra Asanique Mellowin | purple,teal,rose
  | beginners,bad knees,home workouts
  yoga mat @ 35: non-slip, thick, cork, foldable, extra-long
  massage gun @ 90: quiet, compact, cordless, deep-tissue, heated
  foam roller @ 25: firm, vibrating, compact, grooved, foldable
watches | Meridian Tide Sol Nova Onyx | Chronelle Tictara Horavane Orbelin Steinquist Vesperal | black,silver,rose gold
  | running,swimming,gifts
  smart watch @ 170: waterproof, slim, rugged, GPS, always-on
  fitness tracker @ 60: slim, waterproof, GPS, lightweight, screenless
  wall clock @ 30: silent, wooden, large, minimalist, vintage
lighting | Glow Lumen Aurora Beam Dusk | Lichtara Brightwen Candelune Voltessa Solmire Lampique | white,black,brass
  | bedrooms,renters,reading
  floor lamp @ 90: dimmable, LED, arched, minimalist, tripod
  string lights @ 22: solar, waterproof, warm white, LED, dimmable
  night light @ 15: rechargeable, motion-sensing, dimmable, plug-in, warm white
"""


@dataclass(frozen=True)
class _Words:
    """The vocabulary as tables: noun i belongs to category `noun_category[i]` and has 5 adjectives, by number."""

    nouns: list[str]
    noun_category: Array
    noun_price: Array
    noun_adjectives: Array
    adjectives: list[str]
    series: list[list[str]]
    brands: list[list[str]]
    colours: list[list[str]]
    uses: list[list[str]]


def _read_words() -> _Words:
    lines = [line.strip() for line in VOCABULARY.replace("\n  | ", " | ").strip().splitlines()]
    words = _Words([], np.empty(0), np.empty(0), np.empty(0), [], [], [], [], [])
    categories, prices, adjective_ids = [], [], []
    for line in lines:
        if "|" in line:
            _, series, brands, colours, uses = (part.strip() for part in line.split("|"))
            words.series.append(series.split())
            words.brands.append(brands.split())
            words.colours.append(colours.split(","))
            words.uses.append(uses.split(","))
            continue
        noun, rest = line.split(" @ ")
        price, adjectives = rest.split(": ")
        for word in adjectives.split(", "):
            if word not in words.adjectives:
                words.adjectives.append(word)
        words.nouns.append(noun)
        categories.append(len(words.series) - 1)
        prices.append(float(price))
        adjective_ids.append([words.adjectives.index(word) for word in adjectives.split(", ")])
    tables = {"noun_category": np.array(categories), "noun_price": np.array(prices)}
    return _Words(**{**vars(words), **tables, "noun_adjectives": np.array(adjective_ids)})


# ---------------------------------------------------------------------------------------------------------------------
# Queries and offers


@dataclass(frozen=True)
class _Queries:
    """All queries. -1 stands for "not named" in `adjectives` (Q, 2), `brand` and `use`; `budget` is inf without one."""

    sizes: Array
    noun: Array
    adjectives: Array
    brand: Array
    use: Array
    budget: Array
    texts: list[str]
    columns: Columns


def _draw_queries(rng: Generator, words: _Words, queries: int) -> _Queries:
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
        _query_text(words, *row) for row in zip(noun, adjectives, brand, use, budget, sensitivity, style, strict=True)
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
    return _Queries(sizes, noun, adjectives, brand, use, budget, texts, columns)


def _query_text(
    words: _Words, noun: int, adjectives: Array, brand: int, use: int, budget: float, sensitivity: float, style: float
) -> str:
    """What the user typed, such as "wireless headphones under $60" or "running shoes wide"."""
    category = words.noun_category[noun]
    named = [words.adjectives[i] for i in adjectives if i >= 0]
    after = len(named) == 1 and brand < 0 and use < 0 and style < 0.15
    parts = [words.brands[category][brand]] if brand >= 0 else []
    if brand < 0 and style > 0.7:
        parts += ["cheap"] if sensitivity > 0.65 else ["best"] if style > 0.92 else []
    parts += [words.nouns[noun], *named] if after else [*named, words.nouns[noun]]
    parts += [f"for {words.uses[category][use]}"] if use >= 0 else []
    parts += [f"under ${budget:.0f}"] if np.isfinite(budget) else []
    return " ".join(parts)


def _draw_items(rng: Generator, words: _Words, queries: _Queries) -> tuple[Columns, list[str]]:
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
    titles = _titles(rng, words, what, tier.astype(int), refurbished, days, promo)
    sales_log = 0.8 + 0.65 * appeal + 0.70 * age - 0.5 * columns["price_vs_category_log"] + 0.5 * normal(count)
    columns |= {
        "own_brand": own,
        "product_tier": tier,
        "refurbished": refurbished,
        "image_quality": _kept(_sigmoid(0.8 * flash + 0.3 * tier + 0.7 * normal(count) - 0.2), 3),
        "image_count": 1.0 + rng.poisson(3.5, count),
        "description_length": np.rint(np.exp(4.6 + 0.7 * normal(count))),
        "title_length": np.array([len(title.split()) for title in titles], dtype=float),
        "promo_words": promo.astype(float),
        "days_listed": days,
        "days_since_update": np.rint(np.minimum(days, np.exp(2.8 + 1.1 * normal(count)))),
        "sales_30d": np.floor(np.exp(sales_log)),
        "historical_ctr": _kept(
            _sigmoid(-3.1 + 0.3 * appeal + 0.35 * flash + 0.8 * columns["discount"] + 0.25 * normal(count)), 4
        ),
        "warehouse_region": rng.integers(1, 10, count).astype(float),
        "stock": np.floor(np.exp(3.0 + 1.2 * normal(count))),
    }
    return {name: columns[name] for name in FEATURES}, titles


def _draw_products(rng: Generator, words: _Words, queries: _Queries, at: Array) -> Columns:
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


def _match_columns(rng: Generator, queries: _Queries, what: Columns, at: Array) -> Columns:
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
    rng: Generator, queries: _Queries, what: Columns, at: Array, tier: Array, refurbished: Array, quality: Array,
    flash: Array,
) -> Columns:  # fmt: skip
    count = len(at)
    level = 0.40 * (tier - 1) + 0.04 * quality + 0.05 * what["own_brand"] - 0.35 * refurbished
    full = what["usual_price"] * np.exp(level + 0.33 * rng.standard_normal(count))
    discounted = rng.random(count) < _sigmoid(-0.5 + 0.8 * flash)
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
        "free_shipping": (rng.random(count) < _sigmoid(0.8 * relative - 0.2)).astype(float),
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
        "return_rate": _kept(_sigmoid(-2.4 - 0.4 * quality + 0.5 * refurbished + 0.35 * normal(count)), 4),
        "seller_rating": _kept(np.clip(4.2 + 0.22 * quality + 0.3 * normal(count), 1, 5), 2),
        "seller_sales": np.rint(np.exp(6.5 + 1.8 * normal(count))),
        "seller_age_years": _kept(rng.exponential(4.0, count), 1),
    }


def _titles(
    rng: Generator, words: _Words, what: Columns, tier: Array, refurbished: Array, days: Array, promo: Array
) -> list[str]:
    """Such as "Aurel Sonic Lite wireless headphones, black"; premium, new, refurbished and deals as the columns say."""
    count = len(tier)
    series, tier_word = rng.integers(5, size=count), rng.integers(3, size=count)
    both, colour = rng.random(count) < 0.5, rng.integers(12, size=count)
    titles = []
    for i, noun in enumerate(what["noun"].tolist()):
        category = words.noun_category[noun]
        brand = what["brand"][i]
        colours = words.colours[category]
        first, second = (words.adjectives[a] for a in what["adjectives"][i])
        title = (
            f"{PROMO_PREFIX[promo[i]]}{OWN_BRAND if brand < 0 else words.brands[category][brand]} "
            f"{words.series[category][series[i]]} {TIER_WORDS[tier[i]][tier_word[i]]} "
            f"{'premium ' if tier[i] == 2 else ''}{first} {second + ' ' if both[i] else ''}"
            f"{words.nouns[noun]}, {colours[colour[i] % len(colours)]}"
        )
        titles.append(title + (", refurbished" if refurbished[i] else ", new" if days[i] <= 30 else ""))
    return titles


# ---------------------------------------------------------------------------------------------------------------------
# What labels are drawn from


def _latents(columns: Columns) -> Columns:
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
        + 1.5 * x["brand_match"] * _sigmoid(x["user_tenure_years"] - 2.0)
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
    return 4.0 * _sigmoid(1.25 * (appeal - 3.6))


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
        "buy_given_click": _sigmoid(conviction),
        "logging_score": 0.22 * relevance + 0.35 * popular + 4.0 * np.minimum(x["historical_ctr"], 0.15),
    }


def _quality(x: Columns, trust: Array, reputation: Array) -> Columns:
    """An editor's score, 0 to 10, surer where there are many reviews.

    Stars count as far as there are reviews behind them; promotion together with a discount looks like bait.
    """
    established = _sigmoid(x["seller_age_years"] - 3.0)
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
    return {"quality_mean": 10.0 * _sigmoid(1.2 * (merit + 0.6)), "quality_sd": 1.5 + 1.2 * (1 - trust)}


def _freshness(x: Columns) -> Columns:
    """How new the offer feels, 0 to 10: newly listed (premium goods stay new longer), lately renewed, or taking off."""
    lasting = 30.0 * 2.2 ** x["product_tier"] * (1.0 + 0.5 * x["device_mobile"])
    new = 7.0 * np.exp(-x["days_listed"] / lasting) * (1 - 0.6 * x["refurbished"])
    renewed = 2.5 * np.exp(-x["days_since_update"] / 8.0) * (x["image_count"] >= 4)
    rising = 1.8 * _sigmoid(2.0 * (np.log1p(x["sales_30d"]) - 0.6 * np.log1p(x["rating_count"]) - 0.6))
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


def _sigmoid(values: Array) -> Array:
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


# ---------------------------------------------------------------------------------------------------------------------
# Drawing labels. Lists are padded to (q, n); draws come first: (draws, q, n).


@dataclass(frozen=True)
class _Lists:
    """Some lists' truth, padded: `truth[name]` (q, n) float32 with 0 on pads, `mask` (q, n) bool."""

    truth: Columns
    mask: Array

    @classmethod
    def pad(cls, truth: Columns, starts: Array, sizes: Array) -> _Lists:
        place = np.arange(sizes.max())
        mask = place < sizes[:, None]
        index = np.where(mask, starts[:, None] + place, 0)
        return cls({name: np.where(mask, values[index], np.float32(0)) for name, values in truth.items()}, mask)


def _draw_dense(rng: Generator, lists: _Lists, name: str, draws: int) -> Array:
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


def _draw_examination(rng: Generator, lists: _Lists, draws: int) -> Array:
    """The chance that each offer is looked at, float32 (draws, q, n): the old ranking is its score plus noise."""
    noise = rng.standard_normal((draws, *lists.mask.shape), dtype=np.float32)
    score = np.where(lists.mask, lists.truth["logging_score"] + np.float32(LOGGING_NOISE) * noise, -np.inf)
    order = np.argsort(-score, axis=-1)
    looked = np.arange(1, score.shape[-1] + 1, dtype=np.float32) ** np.float32(-EXAMINATION_DECAY)
    examination = np.empty_like(score, dtype=np.float32)
    np.put_along_axis(examination, order, np.broadcast_to(looked, order.shape), -1)
    return examination


def _draw_labels(rng: Generator, lists: _Lists) -> Columns:
    """One joint draw of all six labels, each float32 (q, n)."""
    labels = {name: _draw_dense(rng, lists, name, 1)[0] for name in DENSE}
    looks = lists.truth["click_rate"] * _draw_examination(rng, lists, 1)[0]
    bought = looks * lists.truth["buy_given_click"]
    purchases = rng.poisson(bought)
    labels["purchases"] = purchases.astype(np.float32)
    labels["clicks"] = (purchases + rng.poisson(looks - bought)).astype(np.float32)
    return {name: labels[name] for name in LABELS}


def _rates(rng: Generator, lists: _Lists, name: str, draws: int) -> Array:
    """Poisson rates of `clicks` or `purchases` under drawn places, float32 (draws, q, n), 0 on pads.

    Purchases are clicks thinned at random, so each of the two alone is an independent Poisson count per offer.
    """
    rate = lists.truth["click_rate"] * _draw_examination(rng, lists, draws)
    return rate * lists.truth["buy_given_click"] if name == "purchases" else rate


# ---------------------------------------------------------------------------------------------------------------------
# The data folder


def make_demo(
    out: str | Path, queries: int = DEFAULT_QUERIES, seed: int = DEFAULT_SEED, progress: Progress | None = None
) -> RankData:
    """Write the demo data set to the folder `out` and open it; the same arguments give the same data.

    `progress` is called with what comes next, the steps done and the steps in all. Raises ConfigError on too few
    queries or a negative seed, and what `write_folder` raises where `out` cannot be written.
    """
    problems = []
    if queries < MIN_QUERIES:
        problems.append(f"The demo data need at least {MIN_QUERIES} queries to be split; got {queries}.")
    if seed < 0:
        problems.append(f"A seed is a whole number from 0; got {seed}.")
    if problems:
        raise ConfigError(problems)
    say = progress or (lambda *_: None)
    say(f"simulating {queries:,} queries", 0, 2)
    log = _simulate(queries, seed)
    say(f"writing {len(log.titles):,} offers", 1, 2)
    data = write_folder(
        out,
        columns=log.columns,
        sizes=log.sizes,
        qids=[f"q{i + 1}" for i in range(queries)],
        split=log.split,
        task=Task(MAIN, OBJECTIVES, FEATURES),
        name="marketplace",
        origin=demo_origin(queries, seed),
        item_texts={"title": log.titles, "price": [f"${price:,.2f}" for price in log.columns["price_usd"].tolist()]},
        query_texts=log.texts,
        split_how={"how": "random 60/20/20", "seed": seed},
        tables={TRUTH_FILE: pa.table({name: log.truth[name] for name in TRUTH})},
    )
    say("done", 2, 2)
    return data


@dataclass(frozen=True)
class _Log:
    """The simulated log in memory: float32 features and labels, truth, list sizes, split and texts."""

    columns: Columns
    truth: Columns
    sizes: Array
    split: Array
    titles: list[str]
    texts: list[str]


def _simulate(queries: int, seed: int) -> _Log:
    query_rng, item_rng, label_rng, split_rng = _generators(seed, 4)
    words = _read_words()
    asked = _draw_queries(query_rng, words, queries)
    drawn, titles = _draw_items(item_rng, words, asked)
    columns = {name: values.astype(np.float32) for name, values in drawn.items()}
    truth = _latents(columns)
    lists = _Lists.pad(truth, np.cumsum(asked.sizes) - asked.sizes, asked.sizes)
    columns |= {name: values[lists.mask] for name, values in _draw_labels(label_rng, lists).items()}
    return _Log(columns, truth, asked.sizes, _split(split_rng, queries), titles, asked.texts)


def demo_origin(queries: int = DEFAULT_QUERIES, seed: int = DEFAULT_SEED) -> dict[str, Any]:
    """What a data folder and the runs trained on it say about where the data came from."""
    return {"kind": "demo", "queries": queries, "seed": seed, "generator_version": GENERATOR_VERSION}


def ensure_demo(origin: dict[str, Any], cache: str | Path | None = None, progress: Progress | None = None) -> Path:
    """The demo data folder of `origin` in the user's cache, made first if it is missing or damaged.

    `cache` is by default HYPERDPO_CACHE, or `hyperdpo` under XDG_CACHE_HOME or ~/.cache. Several processes may ask at
    once: each makes its own copy and one is kept. Raises DataError for an origin this version of the generator cannot
    make, and where the cache cannot be written.
    """
    queries, seed = _checked_origin(origin)
    root = Path(cache) if cache is not None else user_cache()
    folder = root / f"demo-v{GENERATOR_VERSION}-{queries}-queries-seed-{seed}"
    if _is_demo(folder, origin):
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".demo-", dir=root) as scratch:
            make_demo(Path(scratch) / "data", queries, seed, progress)
            _put_in_place(Path(scratch), folder, origin)
    except OSError as error:
        raise DataError(
            f"The demo data could not be written to {root} ({error.strerror or error}); set HYPERDPO_CACHE to a folder "
            "you may write to."
        ) from error
    return folder


def _put_in_place(scratch: Path, folder: Path, origin: dict[str, Any]) -> None:
    """Move `scratch`/data to `folder`, unless another process has put the same data there meanwhile."""
    if folder.exists() and not _is_demo(folder, origin):
        with contextlib.suppress(FileNotFoundError):  # another process cleared it away first
            folder.rename(scratch / "damaged")
    try:
        (scratch / "data").rename(folder)
    except OSError:  # a folder with files in it is never overwritten by a rename
        if not _is_demo(folder, origin):
            raise


def _is_demo(folder: Path, origin: dict[str, Any]) -> bool:
    try:
        data = open_data(folder)
        _read_truth(data)
    except (DataError, ConfigError, OSError):
        return False
    return data.manifest.get("origin") == origin


def _checked_origin(origin: dict[str, Any]) -> tuple[int, int]:
    """Queries and seed of a demo origin. Raises DataError listing all that keeps it from being made again."""
    problems = []
    if origin.get("kind") != "demo":
        problems.append(f"Only demo data can be made again; this data's origin is {origin!r}; point to its folder.")
    elif origin.get("generator_version") != GENERATOR_VERSION:
        problems.append(
            f"These demo data come from generator version {origin.get('generator_version')!r}, and this package has "
            f"version {GENERATOR_VERSION}; install the package version the run was made with, or train again."
        )
    else:
        for key in ("queries", "seed"):
            if not isinstance(origin.get(key), int) or isinstance(origin[key], bool):
                problems.append(f"A demo origin has a whole number {key!r}; got {origin.get(key)!r}.")
    if problems:
        raise DataError(problems)
    return origin["queries"], origin["seed"]


def _generators(seed: int, count: int) -> list[Generator]:
    return [Generator(PCG64(child)) for child in SeedSequence([GENERATOR_VERSION, seed]).spawn(count)]


def _split(rng: Generator, queries: int) -> Array:
    """0 train, 1 validation, 2 test at 60/20/20, (Q,) uint8."""
    split = np.zeros(queries, dtype=np.uint8)
    order = rng.permutation(queries)
    fifth = queries // 5
    split[order[:fifth]] = 1
    split[order[fifth : 2 * fifth]] = 2
    return split


def _read_truth(data: RankData) -> Columns:
    """The truth of all items, float32 (N,) each. Raises DataError where there is none, or it is damaged."""
    file = data.path / TRUTH_FILE
    origin = data.manifest.get("origin", {})
    if origin.get("kind") != "demo" or not file.exists():
        raise DataError(
            f"{data.path} holds no {TRUTH_FILE}: only simulated data has an oracle. "
            "Make some with `hyperdpo data demo --out DIR`, or leave the oracle out."
        )
    if origin.get("generator_version") != GENERATOR_VERSION:
        raise DataError(
            f"{data.path} was made by generator version {origin.get('generator_version')!r}; this package's oracle "
            f"is for version {GENERATOR_VERSION}. Make the data again with `hyperdpo data demo`."
        )
    try:
        with pa.memory_map(str(file)) as source:
            table = pa.ipc.open_file(source).read_all()
        truth = {name: table.column(name).to_numpy() for name in TRUTH}
    except (pa.ArrowException, KeyError, OSError) as error:
        raise DataError(f"{file} is damaged ({error}); make the data again with `hyperdpo data demo`.") from error
    if table.num_rows != data.n_items:
        raise DataError(f"{file} has {table.num_rows} rows for {data.n_items} items; make the data again.")
    return truth


# ---------------------------------------------------------------------------------------------------------------------
# The oracle


def oracle(
    data: RankData,
    split: str = "test",
    draws: int = DEFAULT_DRAWS,
    seed: int = ORACLE_SEED,
    objectives: Sequence[Objective] | None = None,
    k: int = 10,
) -> Oracle:
    """The true expectations on one split of demo data, by simulating its labels `draws` times from `truth.arrow`.

    `objectives` (default: the task's) may have any normalisation, temperature, direction and shift over the six labels.
    Raises DataError for data that was not simulated, ConfigError for a column that is no simulated label.

    Monte Carlo error at the default 256 draws, measured between two seeds on the default test split, as the root mean
    square of one item's relative error: p 3.3 % for l1 counts (their draws are integrated out exactly, only the places
    are averaged) and 4.2 to 4.7 % for the dense objectives, which is 0.001 to 0.003 nats a list; gain 4 to 6 %. It
    falls with the square root of `draws`; the time grows in proportion.
    """
    chosen = tuple(data.task.objectives if objectives is None else objectives)
    truth = _read_truth(data)
    _check_oracle(chosen, data.task.main, draws, k)
    lists = data.lists(split)
    starts = data.offsets[lists.query_index.numpy()]
    sizes = lists.sizes.numpy()
    p, gain = np.zeros((2, int(sizes.sum()), len(chosen)), dtype=np.float32)
    main_gain = np.zeros(len(p), dtype=np.float32)
    rho = np.zeros((len(sizes), len(chosen)), dtype=np.float32)
    first = np.cumsum(sizes) - sizes
    for number, chunk in enumerate(_chunks(sizes, draws)):
        padded = _Lists.pad(truth, starts[chunk], sizes[chunk])
        rows = (first[chunk, None] + np.arange(padded.mask.shape[1]))[padded.mask]
        for j, objective in enumerate(chosen):
            known = _expect(objective, padded, draws, k, (seed, number))
            p[rows, j], rho[chunk, j], gain[rows, j] = known.p[padded.mask], known.rho, known.gain[padded.mask]
        main_gain[rows] = _expect(data.task.main, padded, draws, k, (seed, number), targets=False).gain[padded.mask]
    return Oracle(
        chosen,
        p=torch.from_numpy(p),
        rho=torch.from_numpy(rho),
        gain=torch.from_numpy(gain),
        main_gain=torch.from_numpy(main_gain),
        offsets=lists.offsets,
        query_index=lists.query_index,
        k=k,
        draws=draws,
    )


@dataclass(frozen=True)
class _Expected:
    """`p` and `gain` (q, n), `rho` (q,) of one objective on some padded lists."""

    p: Array
    rho: Array
    gain: Array


def _expect(
    objective: Objective, lists: _Lists, draws: int, k: int, seed: tuple[int, int], targets: bool = True
) -> _Expected:
    """Simulate one column's labels. The draws depend on seed and column alone, not on what else is asked."""
    rng = Generator(PCG64(SeedSequence([*seed, zlib.crc32(objective.column.encode())])))
    mask = torch.from_numpy(lists.mask).expand(draws, *lists.mask.shape)
    counts = objective.column not in DENSE and objective.direction == "max" and objective.shift == 0
    p, rho = np.empty(0), np.empty(0)
    if objective.column in DENSE:
        labels = torch.from_numpy(_draw_dense(rng, lists, objective.column, draws))
    else:
        rates = _rates(rng, lists, objective.column, draws)
        labels = torch.from_numpy(rng.poisson(rates).astype(np.float32))
        if targets and counts and objective.normalisation == "l1":
            p, rho = _expected_counts(rates, lists.mask)
    gain = expected_gain(objective.gains(labels, mask), k, torch.from_numpy(rates) if counts else None)
    if targets and not len(p):
        p, rho = expected_targets(objective, labels, mask)
    return _Expected(p, rho, gain)


def _expected_counts(rates: Array, mask: Array) -> tuple[Array, Array]:
    """p (q, n) and rho (q,) of l1-normalised Poisson counts with rates (draws, q, n).

    Given its rates, a list is informative with chance 1 - exp(-sum), and given that it is, its expected share of counts
    is exactly rate / sum. So only the places are averaged over, each weighted by its chance of being informative.
    """
    total = rates.sum(-1)
    weight = -np.expm1(-total)
    share = (weight / total)[..., None] * rates
    p = share.sum(0, dtype=np.float64) / weight.sum(0, dtype=np.float64)[:, None]
    return np.where(mask, p, 0.0), weight.mean(0)


def _chunks(sizes: Array, draws: int) -> Iterator[Array]:
    """Positions of lists of like length, as many at a time as ORACLE_CHUNK values allow."""
    order = np.argsort(sizes, kind="stable")
    start = 0
    while start < len(order):
        width = max(1, ORACLE_CHUNK // (draws * LIST_SIZES[1]))
        yield order[start : start + width]
        start += width


def _check_oracle(objectives: Sequence[Objective], main: Objective, draws: int, k: int) -> None:
    problems = [
        f"{o.column!r} is not a simulated label{nearest(o.column, LABELS)}; the oracle knows {', '.join(LABELS)}."
        for o in (main, *objectives)
        if o.column not in LABELS
    ]
    if draws < 1:
        problems.append(f"The oracle needs at least 1 draw; got {draws}.")
    if k < 1:
        problems.append(f"NDCG@k needs k of at least 1; got {k}.")
    if problems:
        raise ConfigError(problems)
