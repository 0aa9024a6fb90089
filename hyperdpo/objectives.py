"""What one objective is: a labelled column, how its labels become a distribution, and which way is better."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hyperdpo.errors import ConfigError

Normalisation = Literal["l1", "softmax"]
Direction = Literal["max", "min"]

GRAMMAR = "NAME=COLUMN[:l1|softmax[:TEMPERATURE]][:min|max][:raw][:shift=VALUE]"


@dataclass(frozen=True)
class Objective:
    """One objective of a ranking task.

    Attributes:
        name: what people read.
        column: the data column that holds its labels.
        normalisation: `l1` for sparse labels (clicks), `softmax` for dense ones (quality scores); eq. (9).
        temperature: label temperature T of `softmax(z / T)`; ignored by `l1`.
        direction: `max` where more is better. `min` reflects the labels within each list, `max(z) - z`, so that
            everything downstream may take higher as better.
        standardise: `softmax` only: z is standardised within the list first. False is the paper's formula, which is
            one-hot for wide labels (the MSLR quality scores run to 254).
        shift: added to the raw labels; the declared way to make negative labels usable as gains.
    """

    name: str
    column: str
    normalisation: Normalisation = "softmax"
    temperature: float = 1.0
    direction: Direction = "max"
    standardise: bool = True
    shift: float = 0.0

    def __post_init__(self) -> None:
        problems = []
        if not self.name or not self.name.strip():
            problems.append(f"An objective needs a name; got {self.name!r}; write it as {GRAMMAR}.")
        if any(c in self.name for c in "=,:"):
            problems.append(
                f"An objective's name may not contain '=', ',' or ':', which --objective and --weights use; "
                f"got {self.name!r}; choose another name."
            )
        if self.normalisation not in ("l1", "softmax"):
            problems.append(f"Normalisation is 'l1' or 'softmax'; got {self.normalisation!r} for {self.name!r}.")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            problems.append(f"A label temperature is a number above 0; got {self.temperature!r} for {self.name!r}.")
        if self.direction not in ("max", "min"):
            problems.append(f"Direction is 'max' or 'min'; got {self.direction!r} for {self.name!r}.")
        if not math.isfinite(self.shift):
            problems.append(f"A shift is a finite number; got {self.shift!r} for {self.name!r}.")
        if problems:
            raise ConfigError(problems)

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read `NAME=COLUMN[:l1|softmax[:TEMPERATURE]][:min|max][:raw][:shift=VALUE]`.

        `NAME` alone stands for `NAME=NAME`. Raises ConfigError on anything else.
        """
        head, _, tail = text.partition(":")
        name, equals, column = head.partition("=")
        if not equals:
            column = name
        parts = tail.split(":") if tail else []
        fields: dict[str, Any] = {"name": name.strip(), "column": column.strip()}
        for part in parts:
            if part in ("l1", "softmax"):
                fields["normalisation"] = part
            elif part in ("min", "max"):
                fields["direction"] = part
            elif part == "raw":
                fields["standardise"] = False
            elif part.startswith("shift="):
                fields["shift"] = _number(part[6:], text)
            else:
                fields["temperature"] = _number(part, text)
        if not fields["column"]:
            raise ConfigError(f"An objective names a column; got {text!r}; write it as {GRAMMAR}.")
        return cls(**fields)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Objective:
        """The inverse of `to_dict`. Raises ConfigError naming every unknown key at once."""
        unknown = sorted(set(fields) - set(cls.__dataclass_fields__))
        if unknown:
            raise ConfigError(f"An objective has no field {', '.join(map(repr, unknown))}; got {fields!r}.")
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def gains(self, labels: Tensor, mask: Tensor) -> Tensor:
        """Labels (..., n) as gains where higher is better, shape (..., n); 0 where `mask` is False.

        Adds the shift, then reflects within the list if lower is better: the best item's gain is then the list's range.
        """
        gains = labels + self.shift
        if self.direction == "min":
            top = gains.masked_fill(~mask, -torch.inf).amax(-1, keepdim=True)
            gains = top.nan_to_num(neginf=0.0) - gains
        return gains.masked_fill(~mask, 0.0)

    def targets(self, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The label distribution t(z) of eq. (9), shape (..., n), and whether each list is informative, shape (...).

        Under `l1` a list whose labels sum to 0 carries no information: its row is 0 and its flag False. Under `softmax`
        every list with a real item is informative, also a constant one (its distribution is uniform).
        """
        gains = self.gains(labels, mask)
        if self.normalisation == "l1":
            total = gains.sum(-1, keepdim=True)
            return gains / total.where(total > 0, 1.0), (total > 0).squeeze(-1)
        if self.standardise:
            count = mask.sum(-1, keepdim=True).clamp(min=1)
            mean = gains.sum(-1, keepdim=True) / count
            centred = (gains - mean).masked_fill(~mask, 0.0)
            std = (centred.square().sum(-1, keepdim=True) / count).sqrt()
            gains = centred / std.where(std > 1e-6 * (1 + mean.abs()), 1.0)
        logits = (gains / self.temperature).masked_fill(~mask, -torch.inf)
        any_real = mask.any(-1, keepdim=True)
        return torch.softmax(logits.where(any_real, 0.0), -1).masked_fill(~mask, 0.0), any_real.squeeze(-1)


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is neither l1, softmax, min, max, raw, shift=VALUE nor a temperature; got {whole!r}; "
            f"write it as {GRAMMAR}."
        ) from None
