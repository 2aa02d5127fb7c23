"""Pieces of a report: one HTML file without scripts, nothing fetched from a network, for light and dark screens."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --paper: #fff; --accent: #0969da;
  --bad: #b42318; --doubt: #9a6700; --fine: #1a7f37 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --line: #30363d; --paper: #0d1117;
  --accent: #4493f8; --bad: #ff7b72; --doubt: #d29922; --fine: #3fb950 } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--paper) }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem } h3 { font-size: 1rem; margin-top: 1.5rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem }
th, td { padding: .3rem 1rem .3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line) }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
figure { margin: 1rem 0 } figcaption { color: var(--soft); font-size: .9rem }
.panels { display: flex; flex-wrap: wrap; gap: .5rem } .panels svg { width: 20rem; max-width: 100% }
svg text { font: 10px system-ui, sans-serif; fill: var(--soft) }
polyline { fill: none; stroke: var(--ink); stroke-width: 1.2 } polyline.action { stroke: var(--accent) }
polyline.mark { stroke: var(--accent); stroke-width: .8 } polyline.level { stroke: var(--bad); stroke-dasharray: 4 3 }
.strip { display: flex; gap: 4px } .strip img { flex: 1 1 0; min-width: 0; max-width: 12.5%; border-radius: 4px }
.error { color: var(--bad); font-weight: 600 } .warning { color: var(--doubt); font-weight: 600 }
.note { color: var(--soft) } .fine { color: var(--fine); font-weight: 600 } pre { white-space: pre-wrap }
"""

STRIP_WIDTH = 160
"""Pixels across of a picture in a strip."""


class Markup(str):
    """Text that is HTML already, and is not escaped again."""

    __slots__ = ()


def write(path: Path, title: str, sections: Sequence[str]) -> Path:
    """Write a page to `path`, making its folder, and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1>{''.join(sections)}</body></html>\n"
    )
    path.write_text(page, encoding="utf-8")
    return path


def heading(text: str, *, level: int = 2) -> str:
    return f"<h{level}>{html.escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    return f"<p>{_escaped(text)}</p>"


def marked(text: str, kind: str) -> Markup:
    """`kind` is a class of `STYLE`: `error`, `warning`, `note` or `fine`."""
    return Markup(f'<span class="{kind}">{html.escape(text)}</span>')


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """A table; the columns in `numbers` are aligned to the right."""
    heads = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=number' if i in numbers else ''}>{_escaped(cell)}</td>" for i, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{heads}</tr>{body}</table></div>'


def figure(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{_escaped(caption)}</figcaption></figure>"


def strip(images: Sequence[NDArray[np.uint8]], labels: Sequence[str]) -> str:
    """Pictures beside each other, made small; `labels` are shown where a picture cannot be."""
    shown = "".join(
        f'<img alt="{html.escape(label, quote=True)}" title="{html.escape(label, quote=True)}" src="{_jpeg(image)}">'
        for image, label in zip(images, labels, strict=True)
    )
    return f'<div class="strip">{shown}</div>'


def _escaped(text: str) -> str:
    return text if isinstance(text, Markup) else html.escape(text)


def _jpeg(image: NDArray[np.uint8]) -> str:
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((STRIP_WIDTH, STRIP_WIDTH))
    buffer = io.BytesIO()
    picture.save(buffer, format="jpeg", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
