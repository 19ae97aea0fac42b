"""The roofline explorer: a kernel moved along a device's roof by hand. Unit 3.1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from aiinfra_labs.course.framing import framed, scripted

from .roofs import BATCHES, CONTEXTS, SHOWN, Row, rows, settled, tables

__all__ = ["RooflineExplorer"]

HERE = Path(__file__).parent


class RooflineExplorer(anywidget.AnyWidget):
    """A device's roof at a precision, and kernels under it.

    Sliders set the intensity of a kernel of one's own, and the batch of an LLM's decode step. The
    whole state is in the traits below, so it works on a static page.
    """

    _esm = scripted(HERE / "roofline.js")
    _css = framed(HERE / "roofline.css")

    tables = traitlets.Dict(help="Devices and model, see `roofs.tables`.").tag(sync=True)
    device = traitlets.Enum(SHOWN, "h100", help="Short name of the device.").tag(sync=True)
    precision = traitlets.Unicode("fp16_tensor", help="Of the peak.").tag(sync=True)
    exponent = traitlets.Float(0.0, min=-2, max=4, help="log10 of operations/byte.").tag(sync=True)
    doublings = traitlets.Int(0, min=0, max=8, help="log2 of the batch.").tag(sync=True)
    context = traitlets.Enum(CONTEXTS, 0, help="Tokens of context.").tag(sync=True)
    title = traitlets.Unicode("", help="Above the drawing.").tag(sync=True)

    def __init__(self, **state: Any):
        super().__init__(tables=tables(), **state)
        self._settle()

    @traitlets.observe("device", "precision")
    def _settle(self, change: Any = None) -> None:
        self.precision = settled(self.device, self.precision)

    @property
    def rows(self) -> list[Row]:
        """The figures of what is drawn now."""
        batch = BATCHES[self.doublings]
        return rows(self.device, self.precision, 10**self.exponent, batch, self.context)

    def __repr__(self) -> str:
        mine = self.rows[0]
        return (
            f"RooflineExplorer({self.device}, {self.precision}; {mine.intensity:.3g} "
            f"operations/byte: at most {mine.attainable / 1e12:.3g} TFLOP/s, bound by {mine.bound})"
        )
