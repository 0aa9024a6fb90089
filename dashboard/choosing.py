"""Which of many runs the Runs view lists: search, filters and order. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dashboard.state import quoted

if TYPE_CHECKING:
    from dashboard.store import Saved

ANY = "any"
ORDERS = ("as found", "newest", "name", "hypervolume")
KINDS = (ANY, "rank", "text")


@dataclass(frozen=True)
class Wish:
    """What the list is narrowed to. `data` and `method` are names, or ANY."""

    search: str = ""
    kind: str = ANY
    data: str = ANY
    method: str = ANY
    order: str = ORDERS[0]

    def write(self) -> dict[str, str]:
        """What the address says of it; nothing where all is shown as found."""
        plain = Wish()
        pairs = {"q": "search", "kind": "kind", "data": "data", "method": "method", "order": "order"}
        return {k: getattr(self, name) for k, name in pairs.items() if getattr(self, name) != getattr(plain, name)}


def read_wish(url: Mapping[str, str], data: Sequence[str], methods: Sequence[str]) -> tuple[Wish, list[str]]:
    """The wish of an address, and a sentence for each thing in it that there is not."""
    wish, notes = Wish(search=url.get("q", "")[:100]), []
    known = {"kind": KINDS, "data": (ANY, *data), "method": (ANY, *methods), "order": ORDERS}
    for key, values in known.items():
        value = url.get(key)
        if value is None:
            continue
        if value in values:
            wish = replace(wish, **{key: value})
        else:
            notes.append(f"The address asks for {key} = {quoted(value)}, which no run here has: all are shown.")
    return wish, notes


def data_of(saved: Saved) -> str:
    """Name of the data a run was trained on."""
    return str(saved.config["data"].get("name", ""))


def method_name(saved: Saved) -> str:
    """What people call the run's method."""
    method = saved.config["method"]
    name = str(method["method"] if isinstance(method, dict) else method)
    return saved.own.name if saved.own else name


def chosen(runs: Sequence[Saved], wish: Wish) -> list[Saved]:
    """The runs a wish keeps, in its order; runs without a front come last where hypervolume decides."""
    word = wish.search.strip().casefold()

    def kept(run: Saved) -> bool:
        told = " ".join([run.entry.label, data_of(run), method_name(run), *run.names]).casefold()
        return (
            word in told
            and wish.kind in (ANY, run.kind)
            and wish.data in (ANY, data_of(run))
            and wish.method in (ANY, method_name(run))
        )

    found = [run for run in runs if kept(run)]
    if wish.order == "newest":
        found.sort(key=lambda run: -run.seconds)
    elif wish.order == "name":
        found.sort(key=lambda run: run.entry.label.casefold())
    elif wish.order == "hypervolume":
        found.sort(key=lambda run: -run.own.hypervolume if run.own else float("inf"))
    return found
