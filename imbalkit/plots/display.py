"""A finished figure: shown once, with its description, and made a small picture."""

import base64
import io
import sys
import warnings

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from imbalkit.plots.style import DPI


def show(ax_or_figure: Axes | Figure, alt: str) -> None:
    """Display a figure once, with its description for those who cannot see it, and close it.

    In a notebook the picture is a PNG whose metadata hold ``alt``; a terminal opens a window
    where it can, and prints the description.

    Args:
        ax_or_figure: what a function of this module returned, or a Figure.
        alt: one sentence that says what the figure shows.

    Raises:
        ValueError: ``alt`` is empty.

    Example:
        >>> figure, ax = plt.subplots()
        >>> show(ax, alt="Empty axes.")
        Empty axes.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError("show needs alt, one sentence that says what the figure shows.")
    figure: Figure = getattr(ax_or_figure, "figure", ax_or_figure)  # type: ignore[arg-type]
    try:
        if _in_notebook():
            from IPython.display import display

            # Drawn here and not by IPython, so that it works with any matplotlib backend.
            data = {"image/png": base64.b64encode(as_png(figure)).decode(), "text/plain": alt}
            display(data, raw=True, metadata={"image/png": {"alt": alt}})
        else:
            print(alt)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "cannot be shown": there is no screen
                plt.show()
    finally:
        plt.close(figure)


def as_png(figure: Figure) -> bytes:
    """The figure in 256 colours: a quarter of the bytes, for eyes the same picture.

    Args:
        figure: it stays open.

    Returns:
        the bytes of a PNG file.

    Example:
        >>> as_png(plt.figure())[1:4]
        b'PNG'
    """
    full, small = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        # Names of classes may be in any script; one that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(full, format="png", dpi=DPI, bbox_inches="tight")
    picture = Image.open(full, formats=["PNG"]).convert("RGB")
    few = picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(small, format="png", optimize=True)
    return small.getvalue()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")  # a kernel has imported it long before us
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


__all__ = ["as_png", "show"]
