"""imbalkit: train image classifiers on imbalanced data, and see why they fail.

One idea a module; each module's name is the lesson's word. `imbalkit.diagnose(model, batches)` says
what is wrong with a classifier. The names below are loaded when they are first used; `__init__.pyi`
says the same to editors and type checkers.
"""

from imbalkit import lazy

__version__ = "0.1.0"

_MODULES = (
    "augmentation",
    "checkpoint",
    "checks",
    "cli",
    "course",
    "data",
    "decisions",
    "device",
    "doctor",
    "ensembles",
    "fast",
    "files",
    "history",
    "inference",
    "intake",
    "integrations",
    "lazy",
    "losses",
    "metrics",
    "models",
    "monitor",
    "multitask",
    "optional",
    "plots",
    "predict",
    "preflight",
    "priors",
    "progress",
    "randomness",
    "sampling",
    "schema",
    "sealed",
    "selfsupervised",
    "stages",
    "tables",
    "tally",
    "texts",
    "training",
    "weights",
)
_NAMES = {
    "AsymmetricLoss": "losses.AsymmetricLoss",
    "BalancedSoftmaxLoss": "losses.BalancedSoftmaxLoss",
    "CollapseMonitor": "monitor.CollapseMonitor",
    "FocalLoss": "losses.FocalLoss",
    "LDAMLoss": "losses.LDAMLoss",
    "LogitAdjustedLoss": "losses.LogitAdjustedLoss",
    "SigmoidFocalLoss": "losses.SigmoidFocalLoss",
    "WeightedCrossEntropy": "losses.WeightedCrossEntropy",
    "adjust_logits": "priors.adjust_logits",
    "balanced_weights": "weights.balanced",
    "diagnose": "doctor.diagnose",
    "effective_number_weights": "weights.effective_number",
    "fit": "training.fit",
    "square_root_weights": "weights.square_root",
    "weighted_sampler": "sampling.weighted_sampler",
}
_OF_EXTRAS = ("course", "plots")  # they need more than torch and numpy, which a * did not ask for
__getattr__, __dir__, _public = lazy.attach(__name__, _MODULES, _NAMES)
__all__ = [name for name in _public if name not in _OF_EXTRAS]
