"""imbalkit: train image classifiers on imbalanced data, and see why they fail.

One idea a module; each module's name is the lesson's word. The notebooks of the course use it.
"""

__version__ = "0.1.0"
