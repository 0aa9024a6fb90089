"""The rules of the house, read from the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hyperdpo

PACKAGE = Path(hyperdpo.__file__).parent
ASSEMBLY = {"cli.py", "__main__.py", "__init__.py"}  # above both wings, as is COMMANDS
COMMANDS = "commands"
WINGS = ("rank", "text")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Every module that `file` imports, absolute, wherever in the file the import stands."""
    package = ["hyperdpo", *file.relative_to(PACKAGE).parent.parts]
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (start, node.module or "") if part)
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
        elif (
            isinstance(node, ast.Call)
            and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            found.add(str(node.args[0].value))
    return found


def of(names: set[str], top: str) -> set[str]:
    return {n for n in names if n == top or n.startswith(top + ".")}


def test_the_reader_of_imports_sees_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "rank").mkdir()
    file = tmp_path / "rank" / "x.py"
    file.write_text(
        "import a.b\nfrom .y import z\nfrom .. import text\ndef f():\n    from hyperdpo.text import data\n"
        "    import_module('late')\n"
    )
    expected = {"a.b", "hyperdpo.rank.y", "hyperdpo.text", "hyperdpo.text.data", "late"}
    assert expected <= imported(file)


def test_the_core_never_imports_a_wing() -> None:
    core = [f for f in modules() if f.parent == PACKAGE and f.name not in ASSEMBLY]
    assert {"training.py", "runs.py", "front.py", "methods.py", "losses.py"} <= {f.name for f in core}
    wrong = {f.name: found for f in core for w in WINGS if (found := of(imported(f), f"hyperdpo.{w}"))}
    assert wrong == {}


def test_the_core_never_imports_what_stands_above() -> None:
    wings = [f for wing in WINGS for f in (PACKAGE / wing).rglob("*.py")]
    below = [f for f in modules() if f.parent == PACKAGE and f.name not in ASSEMBLY] + wings
    above = ("hyperdpo.cli", f"hyperdpo.{COMMANDS}", "dashboard")
    wrong = {str(f): found for f in below for top in above if (found := of(imported(f), top))}
    assert wrong == {}


def test_commands_never_import_what_assembles_them() -> None:
    commands = list((PACKAGE / COMMANDS).rglob("*.py"))
    assert {"data.py", "train.py", "measure.py", "compare.py", "shared.py"} <= {f.name for f in commands}
    above = ("hyperdpo.cli", "hyperdpo.__main__", "dashboard")
    wrong = {str(f): found for f in commands for top in above if (found := of(imported(f), top))}
    assert wrong == {}


def test_every_folder_of_the_package_has_its_place() -> None:
    placed = {*WINGS, COMMANDS}
    stray = [str(f) for f in modules() if f.parent != PACKAGE and f.relative_to(PACKAGE).parts[0] not in placed]
    assert stray == []


def test_wings_never_import_each_other() -> None:
    wrong = {
        str(f.relative_to(PACKAGE)): found
        for wing in WINGS
        for f in (PACKAGE / wing).rglob("*.py")
        for other in WINGS
        if other != wing and (found := of(imported(f), f"hyperdpo.{other}"))
    }
    assert wrong == {}


def test_nothing_in_the_package_imports_streamlit() -> None:
    wrong = {str(f): found for f in modules() if (found := of(imported(f), "streamlit"))}
    assert wrong == {}


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, hyperdpo; print([m for m in ('torch', 'numpy', 'pandas', 'lightgbm') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_documented() -> None:
    for name in hyperdpo.__all__:
        assert getattr(hyperdpo, name).__doc__, name
    assert len(set(hyperdpo.__all__)) == len(hyperdpo.__all__) <= 30
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        hyperdpo.nothing  # noqa: B018


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(f) for f in modules() if f.read_text("utf-8").strip() and not ast.get_docstring(ast.parse(f.read_text()))
    ]
    assert silent == []
