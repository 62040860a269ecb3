"""The checks, one function a question, in a module for each thing that they ask about.

Each looks at the record of an examination and returns a Finding, or says that all is well (Healthy)
or that it could not tell (NotChecked).
"""

from imbalkit.doctor.checks import data, loss, network, optimizer, outcome
from imbalkit.doctor.checks.answer import Answer, Healthy, NotChecked
from imbalkit.doctor.record import Record
from imbalkit.doctor.report import FAULT, Finding

# In the order in which findings of equal severity are named: what stands behind other faults comes
# before what follows from it.
CHECKS = {
    "finite data": data.finite_data,
    "labels": data.label_range,
    "different images": data.duplicate_inputs,
    "shapes in the loss": loss.broadcast_loss,
    "softmax before the loss": loss.double_softmax,
    "log-softmax before the loss": loss.missing_log_softmax,
    "several labels": loss.softmax_on_multilabel,
    "activation on the logits": loss.activation_on_logits,
    "scale of the inputs": data.input_range,
    "training against evaluation inputs": data.train_eval_mismatch,
    "shuffled batches": data.unshuffled_batches,
    "frozen parameters": network.frozen_parameters,
    "parameters in the optimizer": optimizer.not_in_optimizer,
    "optimizer steps": optimizer.optimizer_steps,
    "cleared gradients": optimizer.gradients_not_cleared,
    "length of the gradients": optimizer.gradients_clipped,
    "direction of the class weights": loss.inverted_class_weights,
    "weights that act": loss.weights_cancelled,
    "classes that pull": loss.ignored_weights,
    "strength of the weights": loss.weights_too_strong,
    "compensation twice": loss.compensated_twice,
    "learning rate too high": optimizer.learning_rate_too_high,
    "weight decay": optimizer.weight_decay_too_high,
    "training against evaluation mode": network.batchnorm_statistics,
    "dropout": network.dropout_too_high,
    "the same outputs twice": network.dropout_in_evaluation,
    "each image by itself": network.images_mixed,
    "what stands between the layers": network.no_nonlinearity,
    "labels beside their images": data.labels_out_of_step,
    "identical units": network.identical_units,
    "dead units": network.dead_units,
    "any gradient": network.zero_gradient,
    "vanishing gradients": network.vanishing_gradients,
    "learning rate too low": optimizer.learning_rate_too_low,
    "last layer": network.weights_not_loaded,
    "class imbalance": outcome.class_imbalance,
    "finite weights": network.finite_weights,
}

# Symptoms that any of the faults above would bring about: the first that is there counts.
LEFT_OVER = {
    "dependence on the input": outcome.constant_output,
    "training length": outcome.undertrained,
    "overfitting": outcome.overfitting,
    "learning at all": outcome.not_learning,
}


def answers(record: Record) -> dict[str, Answer]:
    """What each check says; symptoms are asked for only where nothing explains them.

    Args:
        record: of an examination, as `examination.gather` makes it.

    Returns:
        a Finding, Healthy or NotChecked for each name in `CHECKS` and `LEFT_OVER`.

    Example:
        >>> import torch
        >>> from imbalkit.doctor.calling import Calling
        >>> from imbalkit.doctor.examination import gather
        >>> from imbalkit.doctor.reading import Clock, read
        >>> model, clock = torch.nn.Linear(6, 3), Clock(5)
        >>> batch = torch.randn(60, 6), torch.arange(60) % 3
        >>> sample = read([batch], "training", clock.after(1), Calling(model))
        >>> loss = torch.nn.functional.cross_entropy
        >>> answers(gather(model, sample, None, loss, None, clock))["labels"]
        'labels from 0 to 2 for 3 classes'
    """
    results: dict[str, Answer] = {name: check(record) for name, check in CHECKS.items()}
    for name, check in LEFT_OVER.items():
        explained = any(isinstance(r, Finding) and r.severity == FAULT for r in results.values())
        explained |= any(isinstance(results.get(other), Finding) for other in LEFT_OVER)
        results[name] = NotChecked("explained by another finding") if explained else check(record)
    return results


__all__ = ["CHECKS", "LEFT_OVER", "Answer", "Healthy", "NotChecked", "answers"]
