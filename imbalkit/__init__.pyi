from imbalkit import (
    augmentation,
    checkpoint,
    checks,
    cli,
    data,
    decisions,
    device,
    doctor,
    ensembles,
    fast,
    files,
    history,
    inference,
    intake,
    integrations,
    lazy,
    losses,
    metrics,
    models,
    monitor,
    multitask,
    optional,
    predict,
    preflight,
    priors,
    progress,
    randomness,
    sampling,
    schema,
    sealed,
    selfsupervised,
    stages,
    tables,
    tally,
    texts,
    training,
    weights,
)
from imbalkit import (
    course as course,
)
from imbalkit import (
    plots as plots,
)
from imbalkit.doctor import (
    diagnose,
)
from imbalkit.losses import (
    AsymmetricLoss,
    BalancedSoftmaxLoss,
    FocalLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    SigmoidFocalLoss,
    WeightedCrossEntropy,
)
from imbalkit.monitor import (
    CollapseMonitor,
)
from imbalkit.priors import (
    adjust_logits,
)
from imbalkit.sampling import (
    weighted_sampler,
)
from imbalkit.training import (
    fit,
)
from imbalkit.weights import (
    balanced as balanced_weights,
)
from imbalkit.weights import (
    effective_number as effective_number_weights,
)
from imbalkit.weights import (
    square_root as square_root_weights,
)

__version__: str

__all__ = [
    "AsymmetricLoss",
    "BalancedSoftmaxLoss",
    "CollapseMonitor",
    "FocalLoss",
    "LDAMLoss",
    "LogitAdjustedLoss",
    "SigmoidFocalLoss",
    "WeightedCrossEntropy",
    "adjust_logits",
    "augmentation",
    "balanced_weights",
    "checkpoint",
    "checks",
    "cli",
    "data",
    "decisions",
    "device",
    "diagnose",
    "doctor",
    "effective_number_weights",
    "ensembles",
    "fast",
    "files",
    "fit",
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
    "predict",
    "preflight",
    "priors",
    "progress",
    "randomness",
    "sampling",
    "schema",
    "sealed",
    "selfsupervised",
    "square_root_weights",
    "stages",
    "tables",
    "tally",
    "texts",
    "training",
    "weighted_sampler",
    "weights",
]
