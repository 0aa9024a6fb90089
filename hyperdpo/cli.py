"""The command line: `hyperdpo` and `python -m hyperdpo`. Assembly only; the commands are in `commands`.

One program is put together here, and what goes wrong in a command becomes a message and an exit status.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn, get_origin, get_type_hints

import tyro
from tyro.conf import FlagCreatePairsOff, UseAppendAction

from hyperdpo.commands.changes import WhatChanges
from hyperdpo.commands.compare import Compare, Info
from hyperdpo.commands.data import DataConvert, DataDemo, DataSimulate
from hyperdpo.commands.export import Export
from hyperdpo.commands.find import Find
from hyperdpo.commands.measure import Evaluate, Score
from hyperdpo.commands.reproduce import Reproduce
from hyperdpo.commands.shared import (
    Command,
    print_text,
    say,
    version,
)
from hyperdpo.commands.text import Generate, Sample, TrainText
from hyperdpo.commands.text_data import Label
from hyperdpo.commands.train import TrainRank
from hyperdpo.errors import BAD_INPUT, BROKEN_PIPE, FAILED, INTERRUPTED, HyperDPOError, Interrupted
from hyperdpo.files import without_nan

data_app = tyro.extras.SubcommandApp()
data_app.command(name="convert")(DataConvert)
data_app.command(name="demo")(DataDemo)
data_app.command(name="simulate")(DataSimulate)

train_app = tyro.extras.SubcommandApp()
train_app.command(name="rank")(TrainRank)
train_app.command(name="text")(TrainText)

app = tyro.extras.SubcommandApp()
app.command(name="evaluate")(Evaluate)
app.command(name="score")(Score)
app.command(name="find")(Find)
app.command(name="generate")(Generate)
app.command(name="export")(Export)
app.command(name="sample")(Sample)
app.command(name="compare")(Compare)
app.command(name="changes")(WhatChanges)
app.command(name="reproduce")(Reproduce)
app.command(name="info")(Info)
app.command(name="label")(Label)
app.command(data_app, name="data", help="Make data folders: from files, or the demo.")
app.command(train_app, name="train", help="Train a run.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line on `argv` (the program's own arguments by default) and return its exit status.

    0 done; 2 bad usage or bad input, with the message on stderr; 130 interrupted; 1 a fault of the program.
    """
    # Before torch is imported: threads that spin while they wait slow small networks a hundredfold on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        print(f"hyperdpo {version()}")
        return 0
    try:
        command: Command = app.cli(
            prog="hyperdpo",
            description="One model for every trade-off: conditioned rankers and language models.",
            args=arguments,
            config=(FlagCreatePairsOff,),
        )
    except SystemExit as stop:  # tyro has printed help or what is wrong
        return stop.code if isinstance(stop.code, int) else BAD_INPUT
    if twice := _given_twice(command, arguments):
        return _failed("\n".join(twice), BAD_INPUT)
    if _rank() and not isinstance(command, TrainRank | TrainText):
        return 0  # under `accelerate launch` one process answers; only training has work for the others
    return _answered(command)


def program() -> NoReturn:
    """`main` as a process of its own."""
    leave(main())


def leave(status: int) -> NoReturn:
    """End this process; at once where it is one of several that a launcher has started.

    An interpreter that winds down while torch's threads between processes are at work is aborted at times (seen with
    gloo, where more programs run than cores), and the launcher then ends the others before they have answered.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # a pipe that nobody reads
                stream.flush()
        os._exit(status)
    sys.exit(status)


def _given_twice(command: Command, arguments: Sequence[str]) -> list[str]:
    """What is wrong with flags of several values that stand more than once: only the last would be heard."""
    flags = [a.split("=", 1)[0].replace("_", "-") for a in arguments if a.startswith("--")]
    problems = []
    for name, hint in get_type_hints(type(command), include_extras=True).items():
        flag, marks = f"--{name.replace('_', '-')}", getattr(hint, "__metadata__", ())
        several = get_origin(getattr(hint, "__origin__", hint)) is tuple
        if several and UseAppendAction not in marks and flags.count(flag) > 1:
            problems.append(
                f"{flag} stands {flags.count(flag)} times, and only the last would be heard; give all its values after "
                f"one: {flag} A B."
            )
    return problems


def _answered(command: Command) -> int:
    """Execute, print, and turn what went wrong into a message and a status."""
    try:
        answer = command.execute()
        if answer is not None:
            print_text(json.dumps(without_nan(answer.document), allow_nan=False) if command.json else answer.text)
        return 0
    except (Interrupted, KeyboardInterrupt) as stop:
        return _failed(str(stop) or "Stopped; nothing was written.", INTERRUPTED)
    except HyperDPOError as error:
        return _failed(str(error), BAD_INPUT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains when it flushes at exit
        return BROKEN_PIPE
    except OSError as error:
        return _failed(_os_sentence(error), BAD_INPUT)
    except Exception as error:
        return _failed(f"{_fault(error, command)}", FAILED)


def _failed(message: str, status: int) -> int:
    """Say `message` on stderr, with the traceback under HYPERDPO_DEBUG=1, and return `status`."""
    if os.environ.get("HYPERDPO_DEBUG") == "1":
        traceback.print_exc()
    if not (_rank() and status == INTERRUPTED):
        say(f"hyperdpo: {message}" if not _rank() else f"hyperdpo (process {_rank()}): {message}")
    return status


def _os_sentence(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}the disk is full ({reason}); free some space, then run the same command again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}no permission ({reason}); choose a place you may read or write."
    return f"{where}{reason}; check the path and run the same command again."


def _fault(error: Exception, command: Command) -> str:
    name = type(error).__name__
    if name in ("OutOfMemoryError", "MemoryError") or "DefaultCPUAllocator" in str(error):
        if isinstance(command, TrainText):
            return (
                "Memory ran out; lower --micro (lists a forward pass: the step stays the same) or --max-response, or "
                "give --checkpointing True, or --precision bf16 on a GPU, or --shard True to several. --dry-run says "
                "beforehand what is needed."
            )
        return "Memory ran out; use --device cpu, a smaller --batch-size, or a smaller --split."
    return f"{name}: {error}\nThis is a fault of the program; HYPERDPO_DEBUG=1 shows where."


def _rank() -> int:
    """Number of this process under `accelerate launch`; 0 alone."""
    return int(os.environ.get("RANK", "0") or 0)
