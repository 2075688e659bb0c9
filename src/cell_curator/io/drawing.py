"""A drawing of rectangles, lines, dots, words and pictures that can be had as SVG and as PNG, the same in both.

Small on purpose: a report and a paper need bars, dots and curves, and a plotting library would be one
more dependency. What the drawings show is decided in `io.figures`.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from numbers import Real
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import escape, quoteattr

import cv2
import numpy as np
from numpy.typing import NDArray

from cell_curator.io.atomic import write_atomic

INK, SOFT, LINE = "#1d2733", "#5c6875", "#dfe4ea"
Anchor = Literal["start", "middle", "end"]
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
_FACES = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "arial.ttf")
_SPARE = str.maketrans({"×": "x", "−": "-", "²": "2", "⊕": "+", "–": "-", "…": "..."})
_PILLOW_ANCHOR = {"start": "ls", "middle": "ms", "end": "rs"}
_SHARP = 2  # px of a PNG for one of the drawing


@dataclass
class Drawing:
    """A white page of ``width`` × ``height`` px; colours are ``"#rrggbb"``, y goes down."""

    width: int
    height: int
    _parts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def rect(self, x: float, y: float, width: float, height: float, fill: str, opacity: float = 1.0) -> None:
        """A filled rectangle."""
        self._parts.append(("rect", {"x": x, "y": y, "w": width, "h": height, "fill": fill, "opacity": opacity}))

    def line(self, points: Sequence[tuple[float, float]] | NDArray[Any], color: str = INK, width: float = 1.0) -> None:
        """A line through these points."""
        self._parts.append(("line", {"points": [(float(x), float(y)) for x, y in points], "fill": color, "w": width}))

    def dot(self, x: float, y: float, radius: float, fill: str, opacity: float = 1.0) -> None:
        """A filled circle."""
        self._parts.append(("dot", {"x": x, "y": y, "r": radius, "fill": fill, "opacity": opacity}))

    def text(
        self, x: float, y: float, words: str, size: float = 12, color: str = INK, anchor: Anchor = "start"
    ) -> None:
        """One line of words; ``y`` is its base line."""
        clean = "".join(c if c.isprintable() else " " for c in words)
        self._parts.append(("text", {"x": x, "y": y, "t": clean, "size": size, "fill": color, "anchor": anchor}))

    def picture(self, x: float, y: float, width: float, height: float, pixels: NDArray[np.uint8]) -> None:
        """A grey (Y, X) or RGB (Y, X, 3) picture."""
        self._parts.append(("picture", {"x": x, "y": y, "w": width, "h": height, "pixels": pixels}))

    # ------------------------------------------------------------------ as a file

    def save(self, path: Path) -> tuple[Path, Path]:
        """Write ``path`` with the endings ``.svg`` and ``.png``.

        Raises
        ------
        UserError
            A file cannot be written.
        """
        svg, png = path.with_suffix(".svg"), path.with_suffix(".png")
        write_atomic(svg, lambda stream: stream.write(self.svg().encode()))
        write_atomic(png, lambda stream: stream.write(self.png()))
        return svg, png

    def svg(self) -> str:
        """The drawing as the text of an SVG file."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
            f'viewBox="0 0 {self.width} {self.height}" font-family="{_FONT}">'
        )
        body = [_svg_part(kind, part) for kind, part in self._parts]
        return "\n".join([head, f'<rect width="{self.width}" height="{self.height}" fill="#ffffff"/>', *body, "</svg>"])

    def png(self) -> bytes:
        """The drawing as the bytes of a PNG file, twice as many pixels each way."""
        from PIL import Image, ImageDraw

        canvas = Image.new("RGB", (self.width * _SHARP, self.height * _SHARP), "#ffffff")
        pen = ImageDraw.Draw(canvas, "RGBA")
        for kind, part in self._parts:
            _png_part(canvas, pen, kind, part)
        stream = io.BytesIO()
        canvas.save(stream, "PNG", optimize=True)
        return stream.getvalue()


def _svg_part(kind: str, part: dict[str, Any]) -> str:
    n = {key: f"{float(value):.2f}".rstrip("0").rstrip(".") for key, value in part.items() if isinstance(value, Real)}
    if kind == "rect":
        box = f'x="{n["x"]}" y="{n["y"]}" width="{n["w"]}" height="{n["h"]}"'
        return f'<rect {box} fill="{part["fill"]}"{_opacity(part)}/>'
    if kind == "dot":
        return f'<circle cx="{n["x"]}" cy="{n["y"]}" r="{n["r"]}" fill="{part["fill"]}"{_opacity(part)}/>'
    if kind == "line":
        points = " ".join(f"{x:.2f},{y:.2f}" for x, y in part["points"])
        return f'<polyline points="{points}" fill="none" stroke="{part["fill"]}" stroke-width="{n["w"]}"/>'
    if kind == "text":
        return (
            f'<text x="{n["x"]}" y="{n["y"]}" font-size="{n["size"]}" fill="{part["fill"]}" '
            f'text-anchor="{part["anchor"]}">{escape(part["t"])}</text>'
        )
    pixels = part["pixels"]
    done, data = cv2.imencode(".png", np.ascontiguousarray(pixels if pixels.ndim == 2 else pixels[..., ::-1]))
    assert done
    source = quoteattr(f"data:image/png;base64,{base64.b64encode(data.tobytes()).decode()}")
    return f'<image x="{n["x"]}" y="{n["y"]}" width="{n["w"]}" height="{n["h"]}" href={source}/>'


def _opacity(part: dict[str, Any]) -> str:
    return "" if part["opacity"] >= 1 else f' fill-opacity="{part["opacity"]:.2f}"'


@lru_cache(maxsize=32)
def _face(size: float) -> Any:
    """A face of this machine with all signs, or None."""
    from PIL import ImageFont

    for name in _FACES:
        with suppress(OSError):
            return ImageFont.truetype(name, size)
    return None


def _png_part(canvas: Any, pen: Any, kind: str, part: dict[str, Any]) -> None:
    from PIL import Image, ImageFont

    s = _SHARP
    fill = part.get("fill", INK)
    if part.get("opacity", 1.0) < 1:
        fill = f"{fill}{round(255 * part['opacity']):02x}"
    if kind == "rect":
        left, right = round(part["x"] * s), round((part["x"] + part["w"]) * s)
        top, bottom = round(part["y"] * s), round((part["y"] + part["h"]) * s)
        if right > left and bottom > top:
            pen.rectangle([left, top, right - 1, bottom - 1], fill=fill)
    elif kind == "dot":
        x, y, r = part["x"] * s, part["y"] * s, part["r"] * s
        pen.ellipse([x - r, y - r, x + r, y + r], fill=fill)
    elif kind == "line":
        pen.line([(x * s, y * s) for x, y in part["points"]], fill=fill, width=max(round(part["w"] * s), 1))
    elif kind == "text":
        font, words = _face(part["size"] * s), part["t"]
        if font is None:  # Pillow's own face has few signs
            font, words = ImageFont.load_default(part["size"] * s), words.translate(_SPARE)
        pen.text((part["x"] * s, part["y"] * s), words, fill=fill, font=font, anchor=_PILLOW_ANCHOR[part["anchor"]])
    else:
        size = (max(round(part["w"] * s), 1), max(round(part["h"] * s), 1))
        canvas.paste(
            Image.fromarray(part["pixels"]).convert("RGB").resize(size), (round(part["x"] * s), round(part["y"] * s))
        )
