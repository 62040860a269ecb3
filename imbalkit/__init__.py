"""imbalkit: train image classifiers on imbalanced data, and see why they fail.

One idea a module; each module's name is the lesson's word. The notebooks of the course use it.
`imbalkit.diagnose(model, batches)` says what is wrong with a classifier.
"""

__version__ = "0.1.0"

from imbalkit.doctor import diagnose

__all__ = ["diagnose"]
