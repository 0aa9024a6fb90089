"""What the page remembers, and how the URL says it. No layout here.

Session keys stand in one enum. The authoritative state lives under these keys, not in widgets, so that nothing is lost
when a view that is not shown takes its widgets with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

MIN_SCALE, MAX_SCALE = 0.1, 10.0
SCALE_STEPS = 50  # of the slider on either side of c = 1
K_CHOICES = (1, 3, 5, 10, 20, 50)
DEFAULT_K = 10
ONLY = ("all", "gained", "lost")  # which of the lists that change are told
MAX_TEXT = 200  # of anything a foreign URL may say, when it is quoted back


class Key(StrEnum):
    """Everything kept in `st.session_state`."""

    RUN = "hx.run"  # label of the open run
    CHOICE = "hx.choice"  # Choice
    LOCKED = "hx.locked"  # tuple of positions
    PIN = "hx.pin"  # Choice pinned as A, or None
    PIN_B = "hx.pinb"  # Choice pinned as B, or None; there is none without A
    X = "hx.x"  # objective on the horizontal axis
    Y = "hx.y"
    K = "hx.k"  # cut-off of NDCG
    QUERY = "hx.query"  # number of the list shown; None is the one that changes most
    WHY = "hx.why"  # whether the shown list says its labels and what moved its items
    ONLY = "hx.only"  # which of the lists that change are told: all, gained or lost
    DEVICE = "hx.device"  # auto, cpu, cuda:0 ...
    DATA = "hx.data"  # run label -> data path given by hand
    FOLDER = "hx.folder"  # a run folder given by hand
    URL = "hx.url"  # the URL's parameters as last read or written
    NOTES = "hx.notes"  # sentences about what a URL said and was not done
    PANEL = "hx.panel"  # the slider panel's own state
    EPOCH = "hx.epoch"  # counts changes of the choice that did not come from the panel
    ACK = "hx.ack"  # last message of the panel that was handled
    COMPARING = "hx.comparing"  # Comparing: what the Compare view shows
    COMPARED_URL = "hx.compared"  # the Compare view's parameters as last read or written
    MARKS = "hx.marks"  # whether the differences of two answers are marked
    TEXT_RUN = "hx.textrun"  # label of the open text run
    TELLING = "hx.telling"  # Telling: what the Text view shows beside its sliders
    TEXT_URL = "hx.texturl"  # the Text view's parameters as last read or written
    WRITING = "hx.writing"  # the answers being written for this session
    ASKED = "hx.asked"  # Asked: what "Find it for me" asks for
    FOUND = "hx.found"  # Answered: what came of it
    BARS = "hx.bars"  # whose 95 % intervals the front chart draws, one of BARS
    POINT = "hx.point"  # the live point's own state
    TARGET = "hx.target"  # Target: where the chart was clicked, and the choice found for it
    OWN = "hx.own"  # tuple of each objective's own temperature, as multiples of the training one; or None
    LISTING = "hx.listing"  # Listing: what the home page shows
    PAGES = "hx.pages"  # the app's pages by the last part of their address, to switch to
    BROUGHT = "hx.brought"  # Brought: the data a person brought, and what shall be done with it
    BROUGHT_URL = "hx.broughturl"  # the address of the view for it as last read or written
    LISTED_URL = "hx.listed"  # the home page's parameters as last read or written
    USER = "hx.user"  # tells this session from others that share its models
    TOUR = "hx.tour"  # whether Explore was first opened without anything in the address


@dataclass(frozen=True)
class Choice:
    """One position of the sliders: whole percentages that sum to 100, and c."""

    percent: tuple[int, ...]
    scale: float = 1.0

    @property
    def weights(self) -> tuple[float, ...]:
        """On the simplex, (m,)."""
        return tuple(p / 100 for p in self.percent)

    def to_text(self) -> str:
        """As the URL writes it: `40,25,35@1.26`."""
        return f"{','.join(map(str, self.percent))}@{self.scale:g}"


def equal_choice(m: int) -> Choice:
    """The same attention for each of m objectives, c = 1."""
    return Choice(whole_percent([1.0] * m))


def whole_percent(values: Sequence[float]) -> tuple[int, ...]:
    """Non-negative numbers with a positive sum as whole percentages that sum to 100, by largest remainders."""
    total = sum(values)
    exact = [100 * v / total for v in values]
    whole = [math.floor(e) for e in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (whole[i] - exact[i], i))
    for i in by_remainder[: 100 - sum(whole)]:
        whole[i] += 1
    return tuple(whole)


def clean_scale(value: float) -> float:
    """c cut to the slider's range, three significant digits."""
    return float(f"{min(max(value, MIN_SCALE), MAX_SCALE):.3g}")


def next_scales(scale: float) -> tuple[float, ...]:
    """The values of c one step of the slider away; the panel counts the same way."""
    step = round(SCALE_STEPS * math.log10(scale))
    near = (step - 1, step + 1)
    return tuple(clean_scale(10 ** (s / SCALE_STEPS)) for s in near if abs(s) <= SCALE_STEPS)


# What the address of a view may say; Explore and Temperature read each other's.
RANK_KEYS = frozenset({"run", "w", "c", "x", "y", "k", "q", "only", "a", "b", "ci", "goal", "keep", "sure"})
HEAT_KEYS = RANK_KEYS | {"own"}
COMPARE_KEYS = frozenset({"runs", "off", "x", "y", "vs", "view", "ci", "metric", "of", "in", "run", "a", "b"})
TEXT_KEYS = frozenset({"run", "w", "c", "x", "y", "prompt", "seed", "t", "p", "n", "strip", "a", "b"})


@dataclass(frozen=True)
class Wanted:
    """What a URL asks for, as far as it can be understood; None where it says nothing."""

    choice: Choice | None = None
    pin: Choice | None = None
    pin_b: Choice | None = None
    x: str | None = None
    y: str | None = None
    k: int | None = None
    query: int | None = None
    only: str = "all"
    notes: tuple[str, ...] = ()


def read_url(parameters: Mapping[str, str], main: str, objectives: Sequence[str]) -> Wanted:
    """The parameters of a URL for a run with these objectives; whatever is foreign becomes a sentence in `notes`."""
    notes: list[str] = []
    m, names = len(objectives), (main, *objectives)
    percent = _percent(parameters.get("w"), m, "w", notes)
    scale = _scale(parameters.get("c"), notes)
    choice = None
    if percent is not None or scale is not None:
        choice = Choice(percent or equal_choice(m).percent, scale or 1.0)
    pin, pin_b = read_pins(parameters, m, notes)
    return Wanted(
        choice=choice,
        pin=pin,
        pin_b=pin_b,
        x=_name(parameters.get("x"), names, "x", notes),
        y=_name(parameters.get("y"), names, "y", notes),
        k=_whole(parameters.get("k"), "k", 1, 1000, notes),
        query=_whole(parameters.get("q"), "q", 0, 10**9, notes),
        only=_only(parameters.get("only"), notes),
        notes=tuple(notes),
    )


def write_url(
    run: str,
    choice: Choice,
    *,
    pin: Choice | None,
    x: str,
    y: str,
    k: int,
    query: int | None = None,
    pin_b: Choice | None = None,
    only: str = "all",
) -> dict[str, str]:
    """The URL's parameters of a state; the inverse of `read_url`."""
    out = {"run": run, "w": ",".join(map(str, choice.percent)), "c": f"{choice.scale:g}", "x": x, "y": y, "k": str(k)}
    out |= write_pins(pin, pin_b)
    if query is not None:
        out["q"] = str(query)
    if only != "all":
        out["only"] = only
    return out


def read_pins(parameters: Mapping[str, str], m: int, notes: list[str]) -> tuple[Choice | None, Choice | None]:
    """Choices A and B of a URL with m objectives; whatever is foreign becomes a sentence in `notes`."""
    a, b = (_pin(parameters.get(key), key, m, notes) for key in ("a", "b"))
    if a is None and b is not None:
        notes.append("The link pins a choice b but no choice a to compare it with; it is pinned as A.")
        return b, None
    return a, b


def write_pins(pin: Choice | None, pin_b: Choice | None) -> dict[str, str]:
    """The URL's parameters of A and B; the inverse of `read_pins`."""
    return {key: choice.to_text() for key, choice in (("a", pin), ("b", pin_b)) if choice is not None}


Limits = tuple[tuple[str, float], ...]  # names, and the percent of the base each shall keep


def read_question(
    parameters: Mapping[str, str], goals: Sequence[str], names: Sequence[str], most: float
) -> tuple[tuple[str, Limits, bool] | None, list[str]]:
    """Goal, limits and whether they have a margin, as `goal=clicks&keep=relevance:99,margin:95&sure=1` asks; None where
    nothing is asked; and a sentence for whatever is foreign."""
    goal, notes = parameters.get("goal"), []
    if goal is None:
        return None, []
    if goal not in goals:
        return None, [f"The link's goal={quoted(goal)} is nothing this run can look for; it has {', '.join(goals)}."]
    limits: dict[str, float] = {}
    for text in filter(None, parameters.get("keep", "").split(",")):
        name, _, share = text.rpartition(":")
        try:
            percent = float(share)
        except ValueError:
            percent = math.nan
        if name in names and 0 <= percent <= most:
            limits[name] = percent
        else:
            notes.append(f"The link's keep={quoted(text)} is not NAME:PERCENT of this run; that limit was left out.")
    sure = parameters.get("sure", "0")
    if sure not in ("0", "1"):
        notes.append(f"The link's sure={quoted(sure)} is neither 0 nor 1; no margin is asked for.")
    return (goal, tuple(limits.items()), sure == "1"), notes


def write_question(goal: str, limits: Limits, *, margin: bool) -> dict[str, str]:
    """The URL's parameters of a question; the inverse of `read_question`."""
    out = {"goal": goal, "keep": ",".join(f"{name}:{percent:g}" for name, percent in limits)}
    return {k: v for k, v in out.items() if v} | ({"sure": "1"} if margin else {})


def quoted(text: str) -> str:
    """Foreign text, shortened, for a sentence."""
    return repr(text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + " ...")


def _percent(text: str | None, m: int, key: str, notes: list[str]) -> tuple[int, ...] | None:
    if text is None:
        return None
    values = []
    for part in text.split(","):
        try:
            values.append(float(part))
        except ValueError:
            values.append(math.nan)
    if len(values) != m or not all(math.isfinite(v) and v >= 0 for v in values) or not 0 < sum(values) < math.inf:
        notes.append(
            f"The link's {key}={quoted(text)} is not {m} percentages, one per objective; equal attention is "
            "shown instead."
        )
        return None
    return whole_percent(values)


def _scale(text: str | None, notes: list[str], key: str = "c") -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        notes.append(f"The link's {key}={quoted(text)} is not a number above 0; c = 1 is shown instead.")
        return None
    if clean_scale(value) != float(f"{value:.3g}"):
        notes.append(
            f"The link's {key}={quoted(text)} is outside {MIN_SCALE:g} to {MAX_SCALE:g}; the nearest end is shown."
        )
    return clean_scale(value)


def _only(text: str | None, notes: list[str]) -> str:
    if text is None or text in ONLY:
        return text or "all"
    notes.append(f"The link's only={quoted(text)} is none of {', '.join(ONLY)}; all lists that change are shown.")
    return "all"


def _pin(text: str | None, key: str, m: int, notes: list[str]) -> Choice | None:
    if text is None:
        return None
    weights, _, scale_text = text.partition("@")
    found: list[str] = []
    percent, scale = _percent(weights, m, key, found), _scale(scale_text or "1", found, key)
    if percent is None or scale is None:
        notes.append(f"The link's pinned choice {key}={quoted(text)} cannot be read; nothing is pinned there.")
        return None
    return Choice(percent, scale)


def _name(text: str | None, names: Sequence[str], key: str, notes: list[str]) -> str | None:
    if text is None or text in names:
        return text
    notes.append(f"The link's axis {key}={quoted(text)} is no objective of this run; it has {', '.join(names)}.")
    return None


def _whole(text: str | None, key: str, low: int, high: int, notes: list[str]) -> int | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high:
        return int(text)
    notes.append(f"The link's {key}={quoted(text)} is not a whole number from {low} to {high}; it was left out.")
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Compare and Temperature

VIEWS = ("plane", "lines", "pairs", "triangle")


@dataclass(frozen=True)
class Range:
    """From `low` to `high` of a figure's NDCG, or, where `w.` stands before the name, of an objective's attention."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class Comparing:
    """What the Compare view shows.

    Attributes:
        runs: labels of the runs, the one that sets the terms first.
        off: keys of the fronts that are not drawn.
        x, y: objectives on the axes. against: key of the front that the others are compared with.
        view: one of VIEWS. crosses: whether 95 % intervals are drawn.
        metric, of: what the triangle shows, and of which front. Empty text means the view's own choice, everywhere.
        picked: what is selected: the points in all of these ranges; all of them where there is none.
    """

    runs: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    x: str = ""
    y: str = ""
    against: str = ""
    view: str = "plane"
    crosses: bool = True
    metric: str = ""
    of: str = ""
    picked: tuple[Range, ...] = ()


def read_comparing(parameters: Mapping[str, Sequence[str]]) -> tuple[Comparing, tuple[str, ...]]:
    """What a URL of the Compare view asks for, and a sentence for whatever is foreign.

    Whether its runs, fronts and objectives exist is for the view to say, which has opened them.
    """
    notes = []

    def one(key: str) -> str:
        return parameters[key][-1] if parameters.get(key) else ""

    view = one("view") or "plane"
    if view not in VIEWS:
        notes.append(f"The link's view={quoted(view)} is none of {', '.join(VIEWS)}; the plane is shown.")
        view = "plane"
    crosses = one("ci") or "1"
    if crosses not in ("0", "1"):
        notes.append(f"The link's ci={quoted(crosses)} is neither 0 nor 1; intervals are drawn.")
    return Comparing(
        tuple(dict.fromkeys(parameters.get("runs", ()))),
        tuple(dict.fromkeys(parameters.get("off", ()))),
        one("x"), one("y"), one("vs"), view, crosses != "0", one("metric"), one("of"),
        _ranges(parameters.get("in", ()), notes),
    ), tuple(notes)  # fmt: skip


def _ranges(texts: Sequence[str], notes: list[str]) -> tuple[Range, ...]:
    """`clicks:0.5:0.6`, once for every range; the last one of a name counts."""
    out: dict[str, Range] = {}
    for text in texts:
        name, *ends = text.rsplit(":", 2)
        try:
            low, high = (float(end) for end in ends)
        except ValueError:
            low, high = math.nan, math.nan
        if name and math.isfinite(low) and math.isfinite(high) and low <= high:
            out[name] = Range(name, low, high)
        else:
            notes.append(f"The link's in={quoted(text)} is not NAME:LOW:HIGH; it was left out of the selection.")
    return tuple(out.values())


def write_comparing(shown: Comparing) -> dict[str, list[str]]:
    """The URL's parameters of a comparison; the inverse of `read_comparing`."""
    single = {"x": shown.x, "y": shown.y, "vs": shown.against, "metric": shown.metric, "of": shown.of}
    out = {"runs": list(shown.runs), "off": list(shown.off)} | {k: [v] for k, v in single.items() if v}
    out["in"] = [f"{r.name}:{r.low:g}:{r.high:g}" for r in shown.picked]
    if shown.view != "plane":
        out["view"] = [shown.view]
    if not shown.crosses:
        out["ci"] = ["0"]
    return {k: v for k, v in out.items() if v}


def read_own(text: str | None, m: int) -> tuple[tuple[float, ...] | None, tuple[str, ...]]:
    """Each objective's own temperature, as `own=1,0.5,2` in a URL says it; None and a sentence where it cannot."""
    if text is None:
        return None, ()
    notes: list[str] = []
    values = [_scale(part, notes, "own") for part in text.split(",")]
    if len(values) != m or any(v is None for v in values):
        return None, (
            f"The link's own={quoted(text)} is not {m} numbers above 0, one per objective; one temperature is shown "
            "for all.",
        )
    return tuple(v for v in values if v is not None), tuple(notes)


def write_own(own: Sequence[float] | None) -> dict[str, str]:
    """The URL's parameter of each objective's own temperature; the inverse of `read_own`."""
    return {"own": ",".join(f"{v:g}" for v in own)} if own is not None else {}


# ---------------------------------------------------------------------------------------------------------------------
# Text

LOWEST_TEXT_SCALE = 0.5  # of c at decoding: below it the base is subtracted more than the tuned model weighs
LONGEST_PROMPT = 2000  # characters, so that the address stays one that browsers open
LENGTHS = (16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Telling:
    """What the Text view shows, beside its sliders.

    Attributes:
        prompt: what is continued. seed: of the draws.
        temperature, top_p, length: how tokens are drawn, and how many at most.
        strip: whether the prompt is also answered at 11 weights.
        x, y: objectives on the axes, and the ends of the strip.
    """

    prompt: str
    x: str
    y: str
    seed: int = 0
    temperature: float = 0.8
    top_p: float = 0.95
    length: int = 64
    strip: bool = True


def read_telling(
    parameters: Mapping[str, str], objectives: Sequence[str], now: Telling
) -> tuple[Choice | None, Telling, tuple[str, ...]]:
    """What a URL of the Text view asks for, `now` where it says nothing; and a sentence for whatever is foreign."""
    notes: list[str] = []
    percent = _percent(parameters.get("w"), len(objectives), "w", notes)
    scale = text_scale(parameters.get("c"), notes)
    choice = None
    if percent is not None or scale is not None:
        choice = Choice(percent or equal_choice(len(objectives)).percent, scale or 1.0)
    prompt = parameters.get("prompt", now.prompt)
    if len(prompt) > LONGEST_PROMPT:
        notes.append(f"The link's prompt has {len(prompt):,} characters; its first {LONGEST_PROMPT:,} are used.")
        prompt = prompt[:LONGEST_PROMPT]
    length = _whole(parameters.get("n"), "n", 1, LENGTHS[-1], notes)
    seed = _whole(parameters.get("seed"), "seed", 0, 10**9, notes)
    strip = parameters.get("strip", "1" if now.strip else "0")
    if strip not in ("0", "1"):
        notes.append(f"The link's strip={quoted(strip)} is neither 0 nor 1; the strip is shown.")
    return (
        choice,
        Telling(
            prompt,
            _name(parameters.get("x"), objectives, "x", notes) or now.x,
            _name(parameters.get("y"), objectives, "y", notes) or now.y,
            now.seed if seed is None else seed,
            _share(parameters.get("t"), "t", 0.0, 2.0, now.temperature, notes),
            _share(parameters.get("p"), "p", 0.05, 1.0, now.top_p, notes),
            length or now.length,
            strip != "0",
        ),
        tuple(notes),
    )


def write_telling(run: str, choice: Choice, shown: Telling) -> dict[str, str]:
    """The URL's parameters of the Text view; the inverse of `read_telling`."""
    plain = Telling("", "", "")
    out = {"run": run, "w": ",".join(map(str, choice.percent)), "c": f"{choice.scale:g}", "x": shown.x, "y": shown.y}
    out |= {"prompt": shown.prompt, "seed": str(shown.seed)}
    for key, value, usual in (
        ("t", shown.temperature, plain.temperature),
        ("p", shown.top_p, plain.top_p),
        ("n", shown.length, plain.length),
        ("strip", int(shown.strip), 1),
    ):
        if value != usual:
            out[key] = f"{value:g}"
    return out


def text_scale(text: str | None, notes: list[str]) -> float | None:
    """c at decoding, cut to its range."""
    found: list[str] = []
    scale = _scale(text, found)
    low = LOWEST_TEXT_SCALE
    if scale is not None and (found or scale < low):
        notes.append(
            f"The link's c={quoted(text or '')} is outside {low:g} to {MAX_SCALE:g}; the nearest end is shown."
        )
        return max(scale, low)
    notes += found
    return scale


def _share(text: str | None, key: str, low: float, high: float, now: float, notes: list[str]) -> float:
    if text is None:
        return now
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if low <= value <= high:
        return round(value, 3)
    notes.append(f"The link's {key}={quoted(text)} is not a number from {low:g} to {high:g}; {now:g} is used.")
    return now
