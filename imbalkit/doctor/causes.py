"""What each cause means, how to mend it, and where the course teaches it. The names are stable:
programs may rely on them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """What is said of a cause.

    Attributes:
        explanation: two sentences.
        fix: code to paste.
        lesson: the lesson of the course that teaches it.
    """

    explanation: str
    fix: str
    lesson: str


DIAGNOSING = "lesson 01, diagnosing single-class collapse"
NORMALIZATION = "lesson 02, normalization"
WEIGHTS = "lesson 03, weighted cross-entropy"
SAMPLING = "lesson 05, sampling"
MARGINS = "lesson 09, margins and priors"

CAUSES = {
    "non_finite": Cause(
        "A NaN or an infinite number spreads to every weight within one step, and the argmax of "
        "NaN is class 0. Find where it enters: the images, the targets, a logarithm of 0, or a "
        "learning rate that is too high.",
        "bad = ~inputs.isfinite().flatten(1).all(1)  # which images of a batch\n"
        "assert loss.isfinite(), 'stop at the first bad loss'",
        DIAGNOSING,
    ),
    "label_range": Cause(
        "The labels do not number the classes from 0 to C - 1, so the loss learns something else "
        "than you mean. Look at the labels of one batch before anything else.",
        "print(targets.dtype, targets.min(), targets.max(), targets.unique())\n"
        "targets = targets - targets.min()  # if they begin at 1; one output: 0.0 and 1.0",
        DIAGNOSING,
    ),
    "ignored_class": Cause(
        "The loss leaves a class out: the number that it ignores is that of a class, or the weight "
        "of a class is 0. The model is never asked for it, and gives its images to the others.",
        "loss_fn = torch.nn.CrossEntropyLoss(ignore_index=255)  # a number that is no class\n"
        "weights = total / (classes * counts)  # and not //, which makes the smallest 0",
        DIAGNOSING,
    ),
    "duplicate_inputs": Cause(
        "The same few images come again and again, or one image with different labels, so there is "
        "little to tell the classes apart by. Most often a dataset returns one image for every "
        "index, a sampler got one weight for each class in place of one for each image, or pixels "
        "from 0 to 1 were stored as whole numbers.",
        "x, y = next(iter(train_batches))\n"
        "print(len(x.flatten(1).unique(dim=0)), 'different images of', len(x))\n"
        "sampler = WeightedRandomSampler(class_weights[labels], len(labels))  # one for each image",
        DIAGNOSING,
    ),
    "double_softmax": Cause(
        "The model ends in a softmax or sigmoid and the loss applies its own, which then sees "
        "numbers between 0 and 1 and can hardly tell them apart. The loss cannot fall below its "
        "floor, and the gradients are small.",
        "# Let forward() return the logits, without softmax or sigmoid:\n"
        "return self.classifier(x)\n"
        "# and apply it only where you want to read probabilities:\n"
        "probabilities = model(x).softmax(1)",
        DIAGNOSING,
    ),
    "broadcast_loss": Cause(
        "Outputs and targets have shapes that the loss takes for a table: each output is compared "
        "with the target of every image. What is best then is the mean of the targets, for all.",
        "loss = loss_fn(model(x).squeeze(1), y)  # both (N,), or both (N, 1)",
        DIAGNOSING,
    ),
    "softmax_on_multilabel": Cause(
        "An image may have several labels, and the loss makes them share one softmax, in which a "
        "label rises only as the others fall. Each label wants a yes or no of its own.",
        "loss_fn = torch.nn.BCEWithLogitsLoss(pos_weight=pos_weight)\n"
        "predicted = model(x).sigmoid() > 0.5",
        WEIGHTS,
    ),
    "missing_log_softmax": Cause(
        "The loss wants log-probabilities, as NLLLoss does, and gets something else. It then has "
        "no lower bound: it falls for ever while nothing is learned about the other classes.",
        "loss_fn = torch.nn.CrossEntropyLoss()  # takes logits; NLLLoss wants x.log_softmax(1)",
        DIAGNOSING,
    ),
    "activation_on_logits": Cause(
        "The model ends in something that cuts off or bounds the logits, an activation or a "
        "cosine, and the loss needs them free. A class whose logit is cut to zero for every image "
        "gets no gradient.",
        "# no activation behind the last layer:\nreturn self.classifier(x)\n"
        "# and cosines times a scale, of 16 for example:\nlogits = 16 * cosines",
        DIAGNOSING,
    ),
    "input_range": Cause(
        "The inputs are far from mean 0 and deviation 1, so the first activations and gradients "
        "are as much too large or too small. A usual learning rate then throws the weights away, "
        "or does not move them.",
        "x = x.float() / 255                     # from 0..255 to 0..1\n"
        "x = (x - mean[:, None, None]) / std[:, None, None]  # of your training images",
        NORMALIZATION,
    ),
    "train_eval_mismatch": Cause(
        "What the model is evaluated on is prepared otherwise than what it was trained on, or its "
        "classes are numbered otherwise. The answers then fit neither the images nor the labels.",
        "prepare = Normalize(mean, std)  # one object for both, from the training images\n"
        "train_set.transform, eval_set.transform = Compose([augment, prepare]), prepare",
        NORMALIZATION,
    ),
    "unshuffled_batches": Cause(
        "Most batches hold one class, because the data are read in the order of their folders. The "
        "model follows the class of the moment and ends on the last one.",
        "loader = DataLoader(train_set, batch_size=128, shuffle=True)",
        DIAGNOSING,
    ),
    "frozen_parameters": Cause(
        "Parameters get no gradient, because requires_grad is False or the output was detached, "
        "and the model is not good enough to be used as it is. Random features do not become "
        "better, however long the head is trained.",
        "for parameter in model.parameters():\n    parameter.requires_grad = True",
        DIAGNOSING,
    ),
    "not_in_optimizer": Cause(
        "Parameters get gradients and no optimizer step, because the optimizer was made before "
        "they were, or from another model. The loss goes on being computed and they stay as they "
        "are.",
        "# make the optimizer last, when the model is complete and on its device\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)",
        DIAGNOSING,
    ),
    "no_optimizer_step": Cause(
        "Gradients were computed, and the optimizer has not taken one step. Either "
        "optimizer.step() is missing or another optimizer is called.",
        "optimizer.zero_grad()\nloss.backward()\noptimizer.step()",
        DIAGNOSING,
    ),
    "gradients_not_cleared": Cause(
        "The gradients left on the model are many times those of a batch: they were added up from "
        "step to step. Each step then repeats all earlier ones, which acts like a learning rate "
        "that grows.",
        "optimizer.zero_grad(set_to_none=True)  # before each loss.backward()",
        DIAGNOSING,
    ),
    "gradients_clipped": Cause(
        "The gradients that the optimizer got are a tiny part of those that a batch gives, so the "
        "weights hardly move. They were cut to a wrong length, or cut before a GradScaler divided "
        "them by its factor.",
        "scaler.scale(loss).backward()\n"
        "scaler.unscale_(optimizer)  # before they are cut\n"
        "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
        "scaler.step(optimizer)\n"
        "scaler.update()",
        DIAGNOSING,
    ),
    "inverted_class_weights": Cause(
        "The loss weighs the frequent classes more, which makes the imbalance worse. Weights must "
        "fall with the count: they are its inverse.",
        "weights = counts.sum() / (len(counts) * counts.float())\n"
        "loss_fn = torch.nn.CrossEntropyLoss(weight=weights)",
        WEIGHTS,
    ),
    "weights_cancelled": Cause(
        "The mean of a weighted loss divides by the sum of the weights in its batch. In a batch of "
        "one image the weight cancels, also where many such batches are added up to a step.",
        "loss_fn = torch.nn.CrossEntropyLoss(weight=weights, reduction='sum')\n"
        "loss = loss_fn(logits, targets) / images_per_step  # or larger batches",
        WEIGHTS,
    ),
    "compensated_twice": Cause(
        "The batches are already balanced and the loss weighs the classes as well, so the rare "
        "classes are now favoured and predicted too often. Balance once: by the sampler or by the "
        "weights.",
        "loss_fn = torch.nn.CrossEntropyLoss()  # with a balancing sampler\n"
        "# or shuffle=True without a sampler, and the weights",
        SAMPLING,
    ),
    "batchnorm_statistics": Cause(
        "The same images are predicted well with the batch's own statistics and badly with the "
        "running averages that evaluation uses. These are wrong: too few steps, a momentum far "
        "from 0.1, tiny batches, or they were never updated.",
        "torch.optim.swa_utils.update_bn(train_batches, model)  # measures them anew\n"
        "# and in training: momentum=0.1, batches of 16 or more, model.train()",
        DIAGNOSING,
    ),
    "learning_rate_too_high": Cause(
        "From new weights the model learns nothing at your learning rate and learns at a smaller "
        "one. The first steps throw the weights so far that no usable gradient is left.",
        "for group in optimizer.param_groups:\n    group['lr'] = {rate:g}\n"
        "# and begin again from new weights: the old ones may be beyond repair",
        DIAGNOSING,
    ),
    "learning_rate_too_low": Cause(
        "At your learning rate the weights hardly move, and at a much larger one the model learns. "
        "More epochs would not make up for it.",
        "for group in optimizer.param_groups:\n    group['lr'] = {rate:g}",
        DIAGNOSING,
    ),
    "dropout_too_high": Cause(
        "Dropout takes away nearly all units in training. In torch `p` is the share that goes; "
        "some papers and libraries give the share that stays.",
        "nn.Dropout(p=0.1)  # where a paper keeps 0.9",
        DIAGNOSING,
    ),
    "dropout_in_evaluation": Cause(
        "Evaluation gives other outputs for the same images each time: something is drawn anew in "
        "every pass, most often a dropout that is called as a function and always on.",
        "x = F.dropout(x, 0.5, training=self.training)  # or nn.Dropout, which heeds eval()",
        DIAGNOSING,
    ),
    "images_mixed": Cause(
        "What the model says of an image depends on the images beside it. A view or a transpose "
        "deals the numbers of one image to others, or a sum runs over the batch.",
        "model.eval()\n"
        "print((model(x)[:4] - model(x[:4])).abs().max())  # 0, but for rounding\n"
        "x = x.flatten(1)  # and not x.view(-1, batch): the images stay the first dimension",
        DIAGNOSING,
    ),
    "weights_too_strong": Cause(
        "The weights turn the imbalance round: the rare classes, or the labels that are there, now "
        "pull many times as strongly as the others, and nearly everything is said to be one.",
        "weights = counts.sum() / (len(counts) * counts)  # each class pulls alike\n"
        "pos_weight = (negatives / positives).clamp(max=20)  # several labels: a ratio, no count",
        WEIGHTS,
    ),
    "no_nonlinearity": Cause(
        "Nothing stands between the layers that is not linear, so all of them together can do what "
        "one layer can.",
        "nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))",
        DIAGNOSING,
    ),
    "identical_units": Cause(
        "All units of a layer have the same weights, so they give the same output and get the same "
        "gradient: the layer works as one unit. Constant initial values do that.",
        "torch.nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')",
        DIAGNOSING,
    ),
    "dead_units": Cause(
        "Units give the same number for every image, most often a ReLU that is always off, and let "
        "no gradient through. What lies before them cannot learn.",
        "torch.nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')\n"
        "torch.nn.init.zeros_(layer.bias)  # then train at a smaller learning rate",
        DIAGNOSING,
    ),
    "zero_gradient": Cause(
        "The loss gives every parameter the gradient 0, so nothing can be learned. It does not "
        "depend on the outputs, as a softmax of one score does not, or the numbers are rounded to "
        "0, as half precision does without a GradScaler.",
        "print(model(x)[:4], loss_fn(model(x), y))  # one output: BCEWithLogitsLoss\n"
        "scaler = torch.amp.GradScaler()  # in float16: scale(loss).backward(), step, update",
        DIAGNOSING,
    ),
    "weights_not_loaded": Cause(
        "The layers are trained and the last one is as it was drawn. It was replaced, or its "
        "weights were not loaded because names or shapes did not fit.",
        "missing, unexpected = model.load_state_dict(state, strict=False)\n"
        "print(missing, unexpected)  # both must be empty, or the head must be trained",
        DIAGNOSING,
    ),
    "vanishing_gradients": Cause(
        "The gradient of the first layers is a tiny fraction of the last one's, so that they stay "
        "as they were drawn. Deep stacks of sigmoid or tanh, or badly scaled weights, do that.",
        "# ReLU or GELU in place of sigmoid and tanh, and normalisation between the layers\n"
        "block = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())",
        DIAGNOSING,
    ),
    "weight_decay_too_high": Cause(
        "Weight decay, or a penalty in the loss, pulls the weights to zero faster than the data "
        "can push them away. The outputs end as the same numbers for every image.",
        "for group in optimizer.param_groups:\n    group['weight_decay'] = 5e-4\n"
        "loss = loss_fn(model(x), y)  # and no sum of squares in it",
        DIAGNOSING,
    ),
    "labels_out_of_step": Cause(
        "The labels have nothing to do with the images they stand beside. Images and labels were "
        "sorted or shuffled apart.",
        "order = torch.randperm(len(images))  # one order for both\n"
        "images, labels = images[order], labels[order]",
        DIAGNOSING,
    ),
    "class_imbalance": Cause(
        "The classes come in very different numbers, and the answers lean to the frequent ones. "
        "Take their shares out of the logits, which needs no training, and judge by the mean of "
        "the recalls.",
        "logits = model(x) - (counts / counts.sum()).log()  # lesson 09; nothing is trained\n"
        "# several labels an image: logits - (share / (1 - share)).log(), the share of each\n"
        "# in a new training: balanced batches for its last fifth (lesson 06), which may gain more",
        MARGINS,
    ),
    "undertrained": Cause(
        "Nothing is broken: the model learns when it is trained on, and was not trained enough. "
        "Go on before you change anything else.",
        "for epoch in range(10):\n    train_one_epoch()",
        DIAGNOSING,
    ),
    "not_learning": Cause(
        "The model has learned little, and none of the checks says why. See below what "
        "could not be checked: an argument that was left out may be what is missing.",
        "images, targets = next(iter(train_batches))\n"
        "for step in range(200):  # any working model can learn one batch by heart\n"
        "    loss = torch.nn.functional.cross_entropy(model(images), targets)\n"
        "    optimizer.zero_grad()\n"
        "    loss.backward()\n"
        "    optimizer.step()",
        DIAGNOSING,
    ),
    "overfitting": Cause(
        "The model knows its training images and fails on new ones, prepared in the same way. That "
        "is no collapse: it needs more data, augmentation or less training.",
        "transform = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()])",
        SAMPLING,
    ),
    "constant_output": Cause(
        "The model gives the same output for every image, whatever it is shown. Something on the "
        "way from the images to the outputs cuts them off; a softmax over a single unit is always "
        "1, for example.",
        "with torch.no_grad():\n    print(model(x[:4]))  # follow the rows layer by layer",
        DIAGNOSING,
    ),
}
