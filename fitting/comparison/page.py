"""A comparison as one HTML page that needs no other file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from flowfit.fitting.comparison.table import NOTES, Row, cells, term_text
from flowfit.models.files import write_whole

_JPEG_QUALITY = 88
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1500px;
  padding: 0 1em; color: #303236; background: #fff }
h1 { font-size: 1.4em } h2 { font-size: 1.1em; margin: 2em 0 .4em }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25em .7em; text-align: right; border-bottom: 1px solid #e0e1e3 }
th:first-child, td:first-child, td.text { text-align: left }
.scroll { overflow-x: auto } img { max-width: 100%; height: auto; border: 1px solid #e0e1e3 }
p.note { color: #606368; max-width: 62em } li { overflow-wrap: anywhere }
"""


def jpeg(image: np.ndarray) -> bytes:
    """A picture (H, W, 3) as JPEG."""
    import cv2

    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    return cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), quality)[1].tobytes()


def write_page(
    path: Path,
    rows: Sequence[Row],
    pictures: Sequence[tuple[str, str, bytes]],
    passed_over: Sequence[tuple[str, str]],
    about: str,
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: where. rows: of the table. pictures: of each person the name, a line of text and the
            JPEG. passed_over: name and reason. about: a line on what was compared.
    """
    headings, texts = cells(rows)
    head = "".join(f"<th>{escape(h)}</th>" for h in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in line) + "</tr>\n" for line in texts
    )
    terms = "".join(
        f"<tr><td>{escape(row['recipe'])}</td><td class=text>{escape(term_text(row))}</td></tr>\n"
        for row in rows
    )
    parts = [
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>Flowfit: recipes side by side</title><style>{_STYLE}</style></head><body>",
        f"<h1>Recipes side by side</h1><p>{escape(about)}</p>",
        f"<div class=scroll><table><tr>{head}</tr>\n{body}</table></div>",
        f"<p class=note>{escape(NOTES)}</p>",
        f"<h2>Mean energy by term</h2><div class=scroll><table>{terms}</table></div>",
    ]
    if pictures:
        parts.append(
            "<p class=note>Over the photo above, from the body's left below (who looks at the "
            "camera looks to the left edge). Pink: regression. Green: fitting with the flow. "
            "Grey: SMPLify and other classical priors.</p>"
        )
    for name, text, data in pictures:
        encoded = base64.b64encode(data).decode()
        parts.append(
            f"<h2>{escape(name)}</h2><p class=note>{escape(text)}</p>"
            f"<img alt='{escape(name)}: each recipe over the photo and from the side' "
            f"src='data:image/jpeg;base64,{encoded}'>"
        )
    if passed_over:
        items = "".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in passed_over)
        parts.append(f"<h2>Passed over</h2><ul>{items}</ul>")
    parts.append("</body></html>\n")
    write_whole(path, "\n".join(parts).encode())
