"""Is a broken training of the seventh part broken, and does it learn without its fault?

The eighth part holds healthy ones only, and is shown behind it.

python -m benchmarks.faults.mended                 balanced accuracy with the fault, and without
python -m benchmarks.faults.mended NAME [NAME...]  of these cases; healthy ones have one figure
"""

import sys
import time
import warnings

import torch
from torch import Tensor

from benchmarks.faults.case import Trained


def batches_judged(trained: Trained):
    """Outputs and targets of the evaluation batches, in eval()."""
    forward, targets = trained.options.get("forward"), trained.options.get("targets")
    trained.model.eval()
    with torch.no_grad():
        for batch in trained.eval_batches:
            if forward is not None:
                outputs, wanted = forward(trained.model, batch), targets(batch)
            elif isinstance(batch, dict):
                outputs, wanted = trained.model(**batch), batch["labels"]
            else:
                outputs, wanted = trained.model(batch[0]), batch[1]
            if isinstance(outputs, dict):
                outputs = outputs["logits"]
            yield getattr(outputs, "logits", outputs), wanted


def answers(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """What is predicted and what is true, as flat class numbers.

    Class numbers go with an argmax over the classes; everything else is yes or no, above 0.
    """
    if outputs.shape == targets.shape or outputs.dim() <= 1 or outputs.shape[1] == 1:
        probabilities = bool(outputs.min() >= 0 and outputs.max() <= 1)
        predicted = (outputs > (0.5 if probabilities else 0)).long()
        return predicted.flatten(), (targets > 0).long().flatten()
    dim = 2 if outputs.dim() == 3 else 1
    return outputs.argmax(dim).flatten(), targets.flatten()


def balanced_accuracy(trained: Trained) -> float:
    """The mean recall of all classes on the evaluation batches, in percent."""
    pairs = [answers(outputs, targets) for outputs, targets in batches_judged(trained)]
    predicted, true = (torch.cat(part) for part in zip(*pairs, strict=True))
    classes = true[(true >= 0) & (true < 255)].unique()
    recalls = [(predicted[true == label] == label).float().mean() for label in classes]
    return 100 * torch.stack(recalls).mean().item()


def main(names: list[str]) -> None:
    # Imported here, since the parts are long.
    from benchmarks.faults.bench import PARTS

    warnings.simplefilter("ignore")
    for case in [*PARTS["seventh"].values(), *PARTS["eighth"].values()]:
        if names and case.name not in names:
            continue
        shown = []
        for options in ({}, {"mended": True})[: 2 if case.causes else 1]:
            started = time.perf_counter()
            trained = case.train(**options)
            seconds = time.perf_counter() - started
            shown.append(f"{balanced_accuracy(trained):5.1f} % ({seconds:.0f} s)")
        print(f"{case.name:40} {' -> '.join(shown)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
