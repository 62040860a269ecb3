"""Run a case, let `diagnose` look at it, and compare what it says with what was wrong."""

import random
import time
from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from benchmarks.faults import (
    eighth_part,
    fifth_part,
    first_part,
    fourth_part,
    second_part,
    seventh_part,
    sixth_part,
    third_part,
)
from benchmarks.faults.case import Case, Trained
from imbalkit import diagnose
from imbalkit.doctor import Diagnosis

PARTS = {
    "first": first_part.cases,
    "second": second_part.cases,
    "third": third_part.cases,
    "fourth": fourth_part.cases,
    "fifth": fifth_part.cases,
    "sixth": sixth_part.cases,
    "seventh": seventh_part.cases,
    "eighth": eighth_part.cases,
}


@dataclass
class Outcome:
    """What was said about one case.

    causes: what is wrong with it. faults: what was named, the most likely first.
    fair: names as right as the only cause. changed: what of the caller's is no longer as it was;
    must be empty.
    """

    name: str
    part: str
    causes: list[str]
    faults: list[str]
    changed: list[str]
    learned: float
    training_seconds: float
    diagnosis_seconds: float
    fair: list[str] = field(default_factory=list)

    @property
    def first(self) -> bool:
        """Is a cause named first? A healthy training must not be accused of anything."""
        if not self.causes:
            return self.faults == ["healthy"]
        return self.faults[0] in [*self.causes, *self.fair]

    @property
    def among_three(self) -> bool:
        """Are all causes among the first three, or a name as right as the only one?"""
        if not self.causes:
            return self.first
        named = set(self.faults[:3])
        return set(self.causes) <= named or not named.isdisjoint(self.fair)


def run(case: Case, part: str, seconds: float = 20) -> tuple[Outcome, Diagnosis]:
    """Train, diagnose, and look whether anything was changed."""
    started = time.perf_counter()
    trained = case.train()
    training = time.perf_counter() - started
    before = snapshot(trained)
    diagnosis = diagnose(
        trained.model,
        trained.train_batches,
        loss_fn=trained.loss_fn,
        optimizer=trained.optimizer,
        eval_batches=trained.eval_batches,
        seconds=seconds,
        **trained.options,
    )
    changed = differences(before, snapshot(trained))
    outcome = Outcome(
        case.name,
        part,
        list(case.causes),
        diagnosis.causes,
        changed,
        diagnosis.learned,
        training,
        diagnosis.seconds,
        list(case.fair),
    )
    return outcome, diagnosis


def snapshot(trained: Trained) -> dict:
    """Everything of the caller's that an examination could touch, as copies."""
    model, optimizer = trained.model, trained.optimizer
    state = {f"weights and buffers: {k}": v.clone() for k, v in model.state_dict().items()}
    for name, module in model.named_modules():
        state[f"mode: {name}"] = module.training
    for name, parameter in model.named_parameters():
        state[f"gradient: {name}"] = None if parameter.grad is None else parameter.grad.clone()
        state[f"requires_grad: {name}"] = parameter.requires_grad
    if optimizer is not None:
        state |= _flat("optimizer", optimizer.state_dict())
    if isinstance(trained.loss_fn, torch.nn.Module):
        state |= {f"loss: {k}": v.clone() for k, v in trained.loss_fn.state_dict().items()}
    state["random state: torch"] = torch.get_rng_state()
    state |= _flat("random state: numpy", np.random.get_state())  # noqa: NPY002
    state |= _flat("random state: Python", random.getstate())
    for which in ("train_batches", "eval_batches"):
        generator = getattr(getattr(trained, which), "generator", None)
        if isinstance(generator, torch.Generator):
            state[f"random state: {which}"] = generator.get_state()
    return state


def _flat(name: str, value) -> dict:
    """Nested dicts and lists as one dict of copies."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return {name: value.clone() if isinstance(value, torch.Tensor) else value}
    return {k: v for key, part in items for k, v in _flat(f"{name}: {key}", part).items()}


def differences(before: dict, after: dict) -> list[str]:
    """The names of what is not bit for bit the same; NaN equals NaN."""
    changed = sorted(before.keys() ^ after.keys())
    return changed + [k for k in before if k in after and not _same(before[k], after[k])]


def _same(a, b) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    return type(a) is type(b) and a == b


def line(o: Outcome) -> str:
    """One outcome as a line of the table."""
    mark = "first" if o.first else "among 3" if o.among_three else "MISSED"
    causes = " or ".join([" + ".join(o.causes) or "healthy", *o.fair])
    seconds = f"{o.training_seconds:.0f} + {o.diagnosis_seconds:.0f} s"
    changed = f"  CHANGED: {', '.join(o.changed[:5])}" if o.changed else ""
    return f"{mark:7}  {o.name:36}  {causes} -> {', '.join(o.faults)}  ({seconds}){changed}"


def table(outcomes: list[Outcome]) -> str:
    """The figures of each part, and of all."""
    lines = []
    for part in [*dict.fromkeys(o.part for o in outcomes), "all"]:
        f = summary([o for o in outcomes if part in ("all", o.part)])
        lines.append(
            f"{part:7} named first {f['first']} of {f['faults']}, among the first three "
            f"{f['among_three']}; accused {f['accused']} of {f['healthy']} healthy ones"
        )
    return "\n".join(lines)


def summary(outcomes: list[Outcome]) -> dict:
    """Counts: faults, those named first and among three, healthy trainings, those accused."""
    broken = [o for o in outcomes if o.causes]
    sound = [o for o in outcomes if not o.causes]
    return {
        "faults": len(broken),
        "first": sum(o.first for o in broken),
        "among_three": sum(o.among_three for o in broken),
        "healthy": len(sound),
        "accused": sum(not o.first for o in sound),
        "changed": sum(bool(o.changed) for o in outcomes),
    }


def as_dict(outcome: Outcome) -> dict:
    return asdict(outcome) | {"first": outcome.first, "among_three": outcome.among_three}
