"""What is asked of a table's columns: main label, objectives, features, and a ready base score."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hyperdpo.errors import ConfigError, nearest
from hyperdpo.objectives import Objective

LABEL_NAMES = ("label", "relevance", "rel", "grade")
"""Columns of these names are taken as the main label where none is given, and are never features."""

MSLR_COLUMNS = 136
MSLR_OBJECTIVES = (
    # In the paper's order I..V; the file has the quality scores first (132, 133) and the clicks after (134-136).
    Objective("query_url_clicks", "f134", "l1"),
    Objective("url_clicks", "f135", "l1"),
    Objective("dwell_time", "f136", "l1"),
    Objective("quality", "f132", "softmax"),
    Objective("quality2", "f133", "softmax"),
)
PRESETS = ("mslr",)


@dataclass(frozen=True)
class Task:
    """The roles of the columns of a data folder.

    Attributes:
        main: the main label, which the base ranker is trained on.
        objectives: the m auxiliary objectives, in the order of the weights.
        features: the d feature columns; never one of the columns above, nor the base column.
        base_column: a column of ready base scores, or None.

    Raises ConfigError listing every column that has two roles and every name that occurs twice.
    """

    main: Objective
    objectives: tuple[Objective, ...]
    features: tuple[str, ...]
    base_column: str | None = None

    def __post_init__(self) -> None:
        roles = [("the main label", self.main.column)]
        roles += [(f"objective {o.name!r}", o.column) for o in self.objectives]
        if self.base_column is not None:
            roles.append(("the base score", self.base_column))
        problems = _two_roles(roles)
        features = set(self.features)
        problems += [
            f"Column {column!r} is {role} and also a feature; take it out of the features."
            for role, column in roles
            if column in features
        ]
        problems += [f"Feature {name!r} is listed twice; list it once." for name in _repeated(self.features)]
        problems += [
            f"Two objectives are called {name!r}; give each its own name."
            for name in _repeated([o.name for o in self.objectives])
        ]
        if problems:
            raise ConfigError(problems)

    @property
    def m(self) -> int:
        """The number of auxiliary objectives."""
        return len(self.objectives)

    @property
    def labelled(self) -> tuple[Objective, ...]:
        """Main first, then the objectives: the order of the columns of `ListSet.labels`."""
        return (self.main, *self.objectives)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "main": self.main.to_dict(),
            "objectives": [o.to_dict() for o in self.objectives],
            "features": list(self.features),
            "base_column": self.base_column,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Task:
        """The inverse of `to_dict`. Raises ConfigError naming missing and unknown keys."""
        known = {"main", "objectives", "features", "base_column"}
        missing, unknown = sorted(known - {"base_column"} - set(fields)), sorted(set(fields) - known)
        problems = [f"A task has no field {key!r}." for key in unknown]
        problems += [f"A task needs the field {key!r}, which is missing." for key in missing]
        if problems:
            raise ConfigError(problems)
        return cls(
            main=Objective.from_dict(fields["main"]),
            objectives=tuple(Objective.from_dict(o) for o in fields["objectives"]),
            features=tuple(fields["features"]),
            base_column=fields.get("base_column"),
        )


def declare(
    columns: Sequence[str],
    main: str | Objective | None = None,
    objectives: Iterable[str | Objective] | None = None,
    base_column: str | None = None,
    declared: Task | None = None,
) -> Task:
    """A task over `columns`. What is None is taken from `declared`, or from the names where there is none.

    A string is read by `Objective.parse`; it may also name an objective of `declared`. Features are those of `declared`
    (or all columns) without the columns that have another role; a column that had one does not become a feature again.
    Raises ConfigError with every unknown column (and the nearest name), or every column with two roles.
    """
    problems: list[str] = []
    candidates = declared.features if declared else [c for c in columns if c not in LABEL_NAMES]
    if main is None:
        main = declared.main if declared else _default_main(columns)
    if objectives is None:
        objectives = declared.objectives if declared else ()
    if base_column is None and declared:
        base_column = declared.base_column
    chosen_main = _resolve(main, columns, declared, "the main label", problems)
    chosen = [_resolve(o, columns, declared, "objective", problems) for o in objectives]
    if base_column is not None and base_column not in columns:
        problems.append(f"There is no column {base_column!r} for the base score{hint(base_column, columns)}.")
    if not problems:
        taken = {chosen_main.column, base_column, *(o.column for o in chosen)}
        return Task(chosen_main, tuple(chosen), tuple(c for c in candidates if c not in taken), base_column)
    raise ConfigError(problems)


def preset_task(preset: str, columns: Sequence[str]) -> Task:
    """The task of a preset. Raises ConfigError for an unknown preset, or columns that are not the preset's."""
    if preset not in PRESETS:
        raise ConfigError(
            f"There is no preset {preset!r}{nearest(preset, PRESETS)}; there is {', '.join(map(repr, PRESETS))}."
        )
    expected = ["label", *(f"f{i}" for i in range(1, MSLR_COLUMNS + 1))]
    if set(columns) != set(expected):
        raise ConfigError(
            f"The preset 'mslr' is for files of exactly {MSLR_COLUMNS} feature columns (f1 to f{MSLR_COLUMNS}) and a "
            f"label; this one has {len([c for c in columns if c != 'label'])}. "
            "Leave the preset out and declare --main and --objective yourself."
        )
    taken = {o.column for o in MSLR_OBJECTIVES}
    return Task(Objective("label", "label"), MSLR_OBJECTIVES, tuple(c for c in expected[1:] if c not in taken))


def _default_main(columns: Sequence[str]) -> Objective:
    for name in LABEL_NAMES:
        if name in columns:
            return Objective(name, name)
    raise ConfigError(
        f"No column is called {', '.join(map(repr, LABEL_NAMES))}, so the main label must be named (--main COLUMN); "
        f"the columns are {shown(columns)}."
    )


def _resolve(
    given: str | Objective, columns: Sequence[str], declared: Task | None, role: str, problems: list[str]
) -> Objective:
    """`given` as an Objective over a known column; what cannot be is added to `problems`."""
    objective = Objective.parse(given) if isinstance(given, str) else given
    known = {o.name: o for o in declared.labelled} if declared else {}
    if isinstance(given, str) and ":" not in given and objective.column in known:
        return replace(known[objective.column], name=objective.name)  # a column of that name may be there, too
    if objective.column in columns:
        return objective
    if objective.column in known:
        before = known[objective.column]
        bare = objective == Objective(objective.name, objective.column)
        return replace(before, name=objective.name) if bare else replace(objective, column=before.column)
    label = role if role == "the main label" else f"objective {objective.name!r}"
    problems.append(
        f"There is no column {objective.column!r} for {label}{hint(objective.column, [*columns, *known])}; "
        f"the columns are {shown(columns)}."
    )
    return objective


def hint(name: str, known: Sequence[str]) -> str:
    """`nearest`, also for numbered columns, where similarity of spelling says nothing (f137 of f1..f136)."""
    numbered = re.fullmatch(r"(\D+)(\d+)", name)
    if numbered and known:
        same = [int(c[len(numbered[1]) :]) for c in known if re.fullmatch(re.escape(numbered[1]) + r"\d+", c)]
        if same:
            return f" (did you mean '{numbered[1]}{min(same, key=lambda i: abs(i - int(numbered[2])))}'?)"
    return nearest(name, known)


def shown(columns: Sequence[str], most: int = 12) -> str:
    """The names, or the first and last of many."""
    names = [repr(c) for c in columns]
    if len(names) > most:
        names = [*names[: most - 2], "...", names[-1]]
    return ", ".join(names)


def _two_roles(roles: Sequence[tuple[str, str]]) -> list[str]:
    found: dict[str, list[str]] = {}
    for role, column in roles:
        found.setdefault(column, []).append(role)
    return [
        f"Column {column!r} is {' and '.join(names)}; a column has one role."
        for column, names in found.items()
        if len(names) > 1
    ]


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
