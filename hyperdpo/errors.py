"""One small tree of errors. Each message names the rule, the value received and the way out.

Problems are collected, so that a person mends a file or a command once: ``error.problems`` holds them
one by one and ``str(error)`` shows them all. The command line prints the message and exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

MAX_SHOWN = 20
BAD_INPUT, FAILED, INTERRUPTED, BROKEN_PIPE = 2, 1, 130, 141  # exit statuses of the command line


class HyperDPOError(Exception):
    """Base of every error this package raises on purpose.

    ``problems`` is one message or several; each is a full sentence that can stand alone.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        shown = self.problems[:MAX_SHOWN]
        if len(self.problems) > MAX_SHOWN:
            shown.append(f"... and {len(self.problems) - MAX_SHOWN} more problems of this kind.")
        super().__init__("\n".join(shown))


class DataError(HyperDPOError, ValueError):
    """Something in a file or a table; the message names the file, and the line or the column."""


class ConfigError(HyperDPOError, ValueError):
    """An option or a combination of options that cannot work."""


class WeightsError(HyperDPOError, ValueError):
    """Importance weights off the simplex, or a scale or temperature that is not positive."""


class RunError(HyperDPOError):
    """A run folder that is missing, damaged, incomplete, foreign or from a later version."""


class Interrupted(HyperDPOError):  # noqa: N818 - a stop that was asked for is not an error
    """Training was stopped by a person or a signal; its state is saved and can be resumed."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the known name closest to `name`, or the empty string."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {found[0]!r}?)" if found else ""
