"""The words of the simulated marketplace: its vocabulary, what users type and what offers are called.

Frozen as all of the generator is (`demo`): another word, or another order of the words, is other data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[Any]
Columns = dict[str, Array]

# A category: name | series | brands | colours | uses; then its nouns: noun @ usual price: five adjectives.
# All brands are invented.
OWN_BRAND = "Plenvo"
TIER_WORDS = (("Lite", "Go", "Core"), ("Plus", "Flex", "One"), ("Pro", "Elite", "Max"))
PROMO_PREFIX = ("", "Sale: ", "Hot deal: ", "Hot deal today: ")

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
class Words:
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


def read_words() -> Words:
    lines = [line.strip() for line in VOCABULARY.replace("\n  | ", " | ").strip().splitlines()]
    words = Words([], np.empty(0), np.empty(0), np.empty(0), [], [], [], [], [])
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
    return Words(**{**vars(words), **tables, "noun_adjectives": np.array(adjective_ids)})


def query_text(
    words: Words, noun: int, adjectives: Array, brand: int, use: int, budget: float, sensitivity: float, style: float
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


def item_titles(
    rng: Generator, words: Words, what: Columns, tier: Array, refurbished: Array, days: Array, promo: Array
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
