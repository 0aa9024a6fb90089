"""Opening what was downloaded as its own program would: a picture is decoded, a script run, a page parsed."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

SCRIPT_SECONDS = 60
DRAWN = re.compile(rb"\b(?:S|f|f\*|B|Do|TJ|Tj)\b")  # PDF's operators that leave something on the page


def check(kind: str, content: bytes, folder: Path) -> None:
    """Fail unless `content` is a whole file of this kind with something in it."""
    {"CSV": csv_rows, "JSON": json_rows, "PNG": png, "SVG": svg, "PDF": pdf, "HTML": html}.get(
        kind, lambda c: script(c, folder)
    )(content)


def csv_rows(content: bytes) -> list[dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert rows
    assert all(None not in row and None not in row.values() for row in rows), "a row is longer or shorter than its head"
    return rows


def json_rows(content: bytes) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(content)
    assert rows
    assert len({tuple(row) for row in rows}) == 1, "every row has the same fields"
    return rows


def png(content: bytes) -> None:
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        assert picture.format == "PNG"
        seen = picture.convert("RGB").getcolors(maxcolors=picture.width * picture.height)
    assert seen is not None
    assert len(seen) > 10, "a blank picture"


def svg(content: bytes) -> None:
    root = ElementTree.fromstring(content)
    assert root.tag.endswith("}svg")
    assert sum(1 for _ in root.iter("{http://www.w3.org/2000/svg}path")) > 3
    assert any("NDCG" in text or "cross-entropy" in text for text in root.itertext()), "the axes have lost their titles"


def unpacked(content: bytes) -> bytes:
    """The packed stream that `content` begins with."""
    reader = zlib.decompressobj()
    found = reader.decompress(content)
    assert reader.eof, "a stream breaks off"
    return found


def pdf(content: bytes) -> int:
    """The number of pages; each stream is unpacked, and where this machine has a renderer, the first page is drawn."""
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    [at] = re.findall(rb"startxref\s+(\d+)", content)[-1:]
    assert re.match(rb"xref|\d+ \d+ obj", content[int(at) :]), "the table of contents is not where it is said to be"
    starts = [m.end() for m in re.finditer(rb"/FlateDecode[^>]*>>\s*stream\r?\n", content)]
    assert any(DRAWN.search(unpacked(content[at:])) for at in starts), "nothing is drawn on it"
    if shutil.which("pdftoppm"):
        done = subprocess.run(["pdftoppm", "-png", "-r", "40", "-singlefile", "-"], input=content, capture_output=True)
        assert done.returncode == 0, done.stderr
        png(done.stdout)
    [pages] = {int(n) for n in re.findall(rb"/Count (\d+)", content)}
    return pages


class _Page(HTMLParser):
    """Every tag of a page, and the text that people read."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(content.decode())

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data


def html(content: bytes) -> str:
    """The text that people read; the page loads nothing from elsewhere."""
    page = _Page(content)
    assert page.tags[0] == "html"
    assert "div" in page.tags or "table" in page.tags
    assert not re.search(rb'<(?:script|link|img)[^>]+(?:src|href)="https?:', content), "it must stand alone"
    return page.text


def script(content: bytes, folder: Path) -> None:
    """Run in an empty folder, it draws the chart again."""
    room = folder / f"script-{len(list(folder.iterdir()))}"
    room.mkdir()
    program = room / "chart.py"
    program.write_bytes(content)
    subprocess.run([sys.executable, program.name], cwd=room, check=True, timeout=SCRIPT_SECONDS)
    [drawn] = room.glob("*.html")
    html(drawn.read_bytes())
