"""Temperature: the family of fronts that one trained model gives as c moves, and each objective's own temperature."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from html import escape
from typing import Any

import numpy as np
import streamlit as st

from dashboard import blocks, charts, charts_compare, charts_temperature, export, store, ticker, words, words_help
from dashboard.blocks_compare import temperature_table
from dashboard.readings import Curve
from dashboard.state import (
    HEAT_KEYS,
    K_CHOICES,
    SCALE_STEPS,
    Key,
    clean_scale,
    read_own,
    write_own,
)
from dashboard.store import Job, LiveRun, Saved
from dashboard.views import opened
from dashboard.views.common import (
    PLOT_CONFIG,
    Ready,
    Take,
    add_note,
    chosen,
    chosen_device,
    downloads,
    friendly,
    plain_markdown,
    show_notes,
)
from dashboard.views.pinned import Pinned, pinned
from hyperdpo.errors import HyperDPOError
from hyperdpo.front import ParetoFront

FAMILY = (0.25, 0.5, 1.0, 2.0, 4.0, 10.0)
SWEEP = tuple(clean_scale(10 ** (s / 10)) for s in range(-10, 11))
POLL_SECONDS = 0.4
SAME_SCALE = 0.012  # a quarter of the slider's step: nearer values of c are one stop
PLAIN_CONFIG = {**PLOT_CONFIG, "displayModeBar": False}


def render() -> None:
    """The view."""
    with friendly():
        saved = opened.open_run()
        if saved is None:
            return
        _take_own(saved)
        opened.take_address(saved, HEAT_KEYS)
        show_notes(st.container())
        job = store.live(saved, st.session_state.get(Key.DATA, {}).get(saved.entry.label), chosen_device())
        job.begin()
        job.wait(opened.QUICK_SECONDS)
        if job.live is not None:
            _page(Heat(saved, job.live), saved)
        else:
            _not_yet(saved, job)
        _write_url(saved)


# ---------------------------------------------------------------------------------------------------------------------
# State


def stops(*exact: float) -> list[float]:
    """The slider's values of c: even steps of its logarithm, with those of the family and `exact` ones as they are."""
    out = sorted({*exact, *(c for c in FAMILY if not any(abs(c / e - 1) < SAME_SCALE for e in exact))})
    kept = tuple(out)
    for s in range(-SCALE_STEPS, SCALE_STEPS + 1):
        c = clean_scale(10 ** (s / SCALE_STEPS))
        if not any(abs(c / e - 1) < SAME_SCALE for e in kept):
            out.append(c)
    return sorted(out)


def _take_own(saved: Saved) -> None:
    """Adopt each objective's own temperature from a URL that this page did not write itself."""
    url = st.query_params.to_dict()
    if url and url != st.session_state.get(Key.URL):
        own, notes = read_own(url.get("own"), len(saved.objectives))
        _keep_own(saved, own)
        add_note(*notes)


def _own(saved: Saved) -> tuple[float, ...] | None:
    """Multiples of the training temperatures, kept for one run only."""
    label, own = st.session_state.get(Key.OWN, ("", None))
    return own if label == saved.entry.label else None


def _keep_own(saved: Saved, own: tuple[float, ...] | None) -> None:
    st.session_state[Key.OWN] = (saved.entry.label, own)


def _write_url(saved: Saved) -> None:
    wanted = opened.address_of() | write_own(_own(saved))
    st.session_state[Key.URL] = wanted
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)


def _set_scale(scale: float) -> None:
    s = st.session_state
    s[Key.CHOICE] = replace(s[Key.CHOICE], scale=clean_scale(float(scale)))
    s[Key.EPOCH] = s.get(Key.EPOCH, 0) + 1  # so that Explore's panel takes the new c over


@dataclass(frozen=True, eq=False)
class Heat:
    """Everything that is drawn for the present state, worked out when first asked for."""

    saved: Saved
    live: LiveRun

    @property
    def scale(self) -> float:
        return float(st.session_state[Key.CHOICE].scale)

    @property
    def k(self) -> int:
        return int(st.session_state[Key.K])

    @property
    def axes(self) -> tuple[str, str]:
        """x and y."""
        return st.session_state[Key.X], st.session_state[Key.Y]

    @cached_property
    def family(self) -> list[ParetoFront]:
        return store.family(self.live, FAMILY, self.k)

    @cached_property
    def front(self) -> ParetoFront:
        """At the c of the slider."""
        return store.own_front(self.live, self.scale, self.k)

    @cached_property
    def trained(self) -> ParetoFront:
        """At c = 1, as trained."""
        return store.own_front(self.live, 1.0, self.k)

    @cached_property
    def base(self) -> ParetoFront:
        return next(c.front for c in self.live.curves(1.0, self.k) if c.front.method == "base")

    @cached_property
    def sweep(self) -> charts_temperature.Sweep:
        return charts_temperature.sweep_of(store.family(self.live, SWEEP, self.k))

    @cached_property
    def ranges(self) -> np.ndarray:
        return store.spread([f.ndcg for f in store.family(self.live, SWEEP, self.k)] + [self.base.ndcg])

    @cached_property
    def own(self) -> tuple[ParetoFront | None, str]:
        """The front at each objective's own temperature, or why there is none."""
        own = _own(self.saved)
        if own is None:
            return None, ""
        beta = tuple(float(f"{b * t:.4g}") for b, t in zip(own, self.saved.config["beta"], strict=True))
        try:
            return store.tempered_front(self.live, beta, self.scale, self.k), ""
        except HyperDPOError as error:
            return None, str(error)

    def figure(self) -> charts.Figure:
        """The family of fronts."""
        x, y = self.axes
        figure = charts_temperature.family_figure(
            self.family, self.front, self.base, self.saved.names, x, y, self.ranges, own=self.own[0],
            view=f"{self.saved.entry.label}|{x}|{y}|{self.k}",
        )  # fmt: skip
        figure = charts.worded(figure, self.saved.called)
        return self.pinned.on(figure, x, y) if self.pinned else figure

    @cached_property
    def pinned(self) -> Pinned | None:
        """Choices A and B, if any."""
        return pinned([self.saved], self.k)

    def side(self) -> charts.Figure:
        """The main objective and the hypervolume against c."""
        return charts_temperature.sweep_figure(self.sweep, self.front, self.base, own=self.own[0])

    def sentences(self) -> list[str]:
        """What this c means."""
        change = store.mean_change(self.front, self.trained, self.live)
        out = [words.temperature_sentence(self.front, self.trained, self.base, change)]
        if self.own[0] is not None:
            factors = _own(self.saved) or ()
            change = store.mean_change(self.own[0], self.front, self.live)
            out.append(words.own_sentence(self.own[0], self.front, self.saved.objectives, factors, change))
        return out

    def fronts(self) -> list[ParetoFront]:
        """The rows of the table, from bold to close to the base."""
        rows = {f.scale: f for f in (*self.family, self.front)}
        own = [self.own[0]] if self.own[0] is not None else []
        return [rows[c] for c in sorted(rows)] + own + [self.base]

    def points(self) -> list[dict[str, Any]]:
        """Every point on the chart for CSV and JSON."""
        return export.points([Curve(f) for f in self.fronts()], None, self.saved.names, self.saved.entry.label)

    def rows(self) -> list[dict[str, Any]]:
        """The table for CSV and JSON."""
        return [
            {
                "run": self.saved.entry.label, "front": f.name, "c": f.scale, "k": f.k,
                "beta": " ".join(f"{b:g}" for b in f.beta), "hypervolume": _plain(Curve(f).hypervolume),
                "main": f.main, "main_mean": _plain(f.main_mean), "main_std": _plain(f.main_std),
                "share_of_base": _plain(f.main_mean / self.base.main_mean if self.base.main_mean else np.nan),
            }
            for f in self.fronts()
        ]  # fmt: skip


def _plain(value: float) -> float | None:
    return round(float(value), 9) if np.isfinite(value) else None


# ---------------------------------------------------------------------------------------------------------------------
# The page


def _page(heat: Heat, saved: Saved) -> None:
    with st.container(key="heattools"):
        _tools(saved, heat)
    _slider(heat.scale)
    with st.spinner("Finding the front at these temperatures ...", show_time=True):
        assert heat.own is not None  # worked out here, where the wait can be seen
    left, right = st.columns([1.45, 1], gap="medium")
    with left:
        figure = heat.figure()
        legend = st.container()
        alt = f"A family of fronts of {saved.entry.label}, {heat.axes[1]} against {heat.axes[0]}"
        st.plotly_chart(Ready(figure), config=PLAIN_CONFIG, key="heat.main", alt=charts_compare.describe(figure, alt))
        with legend:
            st.html(
                blocks.legend([e for e in charts.legend(figure) if not e.words.startswith("c = ") or "," in e.words])
            )
    with right:
        figure = heat.side()
        st.html(f'<p class="hx-caption">{escape(saved.main)} and hypervolume as c moves</p>')
        alt = f"Mean {saved.main} and hypervolume against c"
        st.plotly_chart(Ready(figure), config=PLAIN_CONFIG, key="heat.side", alt=charts_compare.describe(figure, alt))
    for line in heat.sentences():
        st.html(f'<p class="hx-price">{escape(line)}</p>')
    st.html(f'<p class="hx-small">{escape(words.C_MEANS)}</p>')
    _advanced(heat, saved)
    st.html(temperature_table(heat.fronts(), heat.base, heat.scale))
    if heat.pinned is not None:
        st.html(heat.pinned.table())
    if heat.live.note:
        st.caption(plain_markdown(heat.live.note))


def _slider(scale: float) -> None:
    chosen(
        st.select_slider, "How far from the base: bolder ← c → closer to the base", "heat.c", scale, _set_scale,
        stops(scale), format_func=lambda v: f"{v:g}",
        help="c = 1 is as trained. It moves the finished model; nothing is trained again.",
    )  # fmt: skip


def _tools(saved: Saved, heat: Heat | None) -> None:
    s = st.session_state
    run, down, across, cut, away = st.columns([2.4, 1.7, 1.7, 1, 1.1], vertical_alignment="bottom")
    with run:
        labels = list(dict.fromkeys([saved.entry.label, *(e.label for e in store.list_runs())]))
        chosen(st.selectbox, "Run", "heat.run", saved.entry.label, opened.go_to_run, labels, help=words_help.RUN)
    for place, label, key in ((down, "Vertical axis", Key.Y), (across, "Horizontal axis", Key.X)):
        with place:
            _kept(label, key, list(saved.names), help=words_help.AXIS, format_func=saved.called.__getitem__)
    with cut:
        ks = sorted({*K_CHOICES, s[Key.K]}) if heat else [saved.k]
        _kept("NDCG@", Key.K, ks, disabled=heat is None, help=words_help.CUT)
    with away:
        if heat is not None:
            downloads(_take(heat, saved), "heat.away")


def _kept(label: str, key: Key, options: Sequence[Any], **rest: Any) -> None:
    """A select box for a choice that the session keeps under `key`."""
    value = st.session_state[key] if st.session_state[key] in options else options[0]
    chosen(st.selectbox, label, f"heat.{key}", value, lambda v: st.session_state.update({key: v}), options, **rest)


def _take(heat: Heat, saved: Saved) -> Take:
    name = "".join(c if c.isalnum() else "-" for c in saved.entry.label)[-60:]
    return Take(
        f"hyperdpo-{name}-temperature",
        saved.entry.label,
        {"Table": heat.rows, "Points": heat.points},
        {"Fronts as c moves": heat.figure, "Main objective as c moves": heat.side},
    )


def _advanced(heat: Heat, saved: Saved) -> None:
    """A temperature for each objective: a slider each, as a multiple of the temperature it was trained at."""
    own = _own(saved)
    if len(saved.objectives) == 1 and own is None:
        return  # that is c
    with st.expander("A temperature for each objective", expanded=own is not None):
        st.html(f'<p class="hx-small">{escape(words.OWN_MEANS)}</p>')
        columns = st.columns(min(5, len(saved.objectives)))
        for i, name in enumerate(saved.objectives):
            with columns[i % len(columns)]:
                value = own[i] if own else 1.0
                said = plain_markdown(saved.called[name])
                chosen(
                    st.select_slider, said, f"heat.own.{i}", value, partial(_set_own, saved, i), stops(value),
                    format_func=lambda v: f"{v:g}",
                    help="Left: this objective may pull the ranking further from the base. Right: less. Only the "
                    "ratios between objectives change the shape of the front; c moves all of them together.",
                )  # fmt: skip
        if own is not None:
            st.button(
                "One temperature for all", on_click=lambda: _keep_own(saved, None),
                help="Put every objective back to the temperature it was trained at; c stays.",
            )  # fmt: skip
        if heat.own[1]:
            st.info(plain_markdown(heat.own[1]))


def _set_own(saved: Saved, index: int, value: float) -> None:
    own = list(_own(saved) or [1.0] * len(saved.objectives))
    own[index] = clean_scale(float(value))
    _keep_own(saved, None if all(v == 1 for v in own) else tuple(own))


def _not_yet(saved: Saved, job: Job) -> None:
    """The saved fronts, while the model is made ready or where its data is not here."""
    with st.container(key="heattools"):
        _tools(saved, None)
    own = saved.own
    if own is not None:
        x, y = st.session_state[Key.X], st.session_state[Key.Y]
        figure = charts_temperature.family_figure(
            [own], own, saved.base, saved.names, x, y, store.saved_ranges(saved), view="saved"
        )
        st.plotly_chart(Ready(figure), config=PLAIN_CONFIG, key="heat.main")
        st.html(f'<p class="hx-small">Shown is the saved front, at c = {own.scale:g}.</p>')
    if job.failure:
        opened.point_at_data(saved, job)
    else:
        _waiting(job, time.monotonic())


@st.fragment
def _waiting(job: Job, shown: float) -> None:
    if job.live is not None or job.failure:
        st.rerun()
    st.caption(f"Making the model ready, so that c can move: {job.doing}, {time.monotonic() - shown:.0f} s ...")
    ticker.show("temperature.waiting", on=True, milliseconds=round(1000 * POLL_SECONDS))
