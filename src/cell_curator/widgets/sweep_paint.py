"""How the tiles of a contact sheet are drawn: pictures, outlines, frames and badges."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRect, QSize, Qt
from qtpy.QtGui import QColor, QFont, QImage, QPainter, QPen, QPixmap

_OUTLINE = (240, 228, 66)  # yellow of Okabe & Ito: found cells


def to_pixmap(image: NDArray[np.float32]) -> QPixmap:
    """``(y, x)`` in 0..1 as a grey picture."""
    grey = np.ascontiguousarray(np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8))
    height, width = grey.shape
    return QPixmap.fromImage(QImage(grey.data, width, height, width, QImage.Format.Format_Grayscale8).copy())


def rendered(picture: QPixmap, found: NDArray[np.int32] | None, size: QSize, *, smooth: bool) -> QPixmap:
    """A tile at another size, with outlines of the cells found; pixels stay pixels where it is enlarged."""
    smooth = smooth and size.width() < picture.width()
    mode = Qt.TransformationMode.SmoothTransformation if smooth else Qt.TransformationMode.FastTransformation
    scaled = picture.scaled(size, Qt.AspectRatioMode.IgnoreAspectRatio, mode)
    if found is not None and found.size:
        painter = QPainter(scaled)
        painter.drawImage(0, 0, _outline_image(found, size))
        painter.end()
    return scaled


def _outline_image(found: NDArray[np.int32], size: QSize) -> QImage:
    """Lines one pixel of the screen wide round the cells, transparent elsewhere."""
    labels = cv2.resize(
        found.astype(np.float32), (size.width(), size.height()), interpolation=cv2.INTER_NEAREST
    )  # exact below 2**24 cells
    edge = np.zeros(labels.shape, bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    rgba = np.zeros((*labels.shape, 4), np.uint8)
    rgba[edge] = (*_OUTLINE, 255)
    return QImage(rgba.data, size.width(), size.height(), 4 * size.width(), QImage.Format.Format_RGBA8888).copy()


def frame(painter: QPainter, slot: QRect, color: QColor, width: int, *, outside: int) -> None:
    """A frame ``outside`` px round a tile."""
    pen = QPen(color, width)
    pen.setJoinStyle(Qt.PenJoinStyle.MiterJoin)
    painter.setPen(pen)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawRect(slot.adjusted(-outside, -outside, outside - 1, outside - 1))


def badge(
    painter: QPainter, slot: QRect, words: Sequence[str], ground: QColor, ink: QColor, *, top: bool = False
) -> None:
    """The longest of the words that fits, in a corner of the tile; nothing where none does."""
    metrics = painter.fontMetrics()
    fitting = [word for word in words if metrics.horizontalAdvance(word) + 10 <= slot.width()]
    if not fitting or slot.height() < 2 * metrics.height():
        return
    height = metrics.height() + 4
    at = slot.top() if top else slot.bottom() + 1 - height
    box = QRect(slot.left(), at, metrics.horizontalAdvance(fitting[0]) + 10, height)
    painter.fillRect(box, ground)
    painter.setPen(ink)
    painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), fitting[0])


def draw_bold(painter: QPainter, box: QRect, text: str) -> None:
    """A title in the middle of a box."""
    plain = painter.font()
    bold = QFont(plain)
    bold.setBold(True)
    painter.setFont(bold)
    painter.drawText(box, int(Qt.AlignmentFlag.AlignHCenter), text)
    painter.setFont(plain)
