"""What diagnose cannot copy it puts back, does not train, and names in a sentence."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from test_diagnose import SGD, Adam, X, Y, batches, mlp, train, trained
from torch import nn

from imbalkit import diagnose
from imbalkit.doctor.copies import inner_optimizer, proven_copies
from imbalkit.doctor.keeping import Notes, fingerprint, shared, tensors_of

TRIALS = "learning rate too high"
NO_LABELS = batches(X, Y[torch.randperm(256, generator=torch.Generator().manual_seed(3))])


class Calls(nn.Module):
    """A head behind a function that nobody can copy."""

    def __init__(self, function, width=8):
        super().__init__()
        self.function, self.head = function, nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.function(x))


class Itself(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 3))

    def forward(self, x):
        return self.network(x)

    def __deepcopy__(self, memo):
        return self


class Refuses(Itself):
    def __deepcopy__(self, memo):
        raise RecursionError("maximum recursion depth exceeded")


def state(*modules, optimizer=None):
    values = [copy.deepcopy(module.state_dict()) for module in modules]
    modes = [[m.training for m in module.modules()] for module in modules]
    parameters = [p for module in modules for p in module.parameters()]
    gradients = [None if p.grad is None else p.grad.clone() for p in parameters]
    return values, modes, gradients, copy.deepcopy(optimizer and optimizer.state_dict())


def check_same(before, after):
    torch.testing.assert_close(after, before, rtol=0, atol=0, equal_nan=True)


def backbone():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).train()


@pytest.mark.parametrize("closure", [True, False])
def test_a_network_in_a_closure_is_left_as_it_was_and_not_trained(closure):
    net = backbone()
    model = Calls((lambda x: net(x)) if closure else net.__call__)  # a method has a copy
    optimizer = Adam([*model.parameters(), *net.parameters()], 0.01)
    train(model, NO_LABELS, optimizer=optimizer, steps=3)
    before = state(model, net, optimizer=optimizer)
    report = diagnose(model, NO_LABELS, optimizer=optimizer, seconds=2)
    check_same(before, state(model, net, optimizer=optimizer))
    assert ("not its own" in report.not_checked.get(TRIALS, "")) == closure


GLOBAL = backbone()  # of a module, as in a notebook


class UsesGlobal(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(GLOBAL(x))


@pytest.mark.parametrize("make", [UsesGlobal, Itself, Refuses])
def test_what_has_no_copy_is_examined_in_place_and_the_trials_are_left_out(make):
    torch.manual_seed(0)
    model = make()
    optimizer = SGD([*model.parameters(), *GLOBAL.parameters()], 0.1)
    train(model, NO_LABELS, optimizer=optimizer, steps=2)
    before = state(model, GLOBAL, optimizer=optimizer)
    report = diagnose(model, NO_LABELS, optimizer=optimizer, seconds=2)
    check_same(before, state(model, GLOBAL, optimizer=optimizer))
    assert "the model cannot be copied" in report.not_checked[TRIALS]
    assert report.not_checked[TRIALS].count("\n") == 0


def test_a_name_that_is_an_attribute_is_not_taken_for_the_global_of_that_name():
    assert not shared([proven_copies(HasHead(), None, F.cross_entropy).model], [HEAD])


HEAD = nn.Linear(8, 3)


class HasHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.HEAD = nn.Linear(8, 3)

    def forward(self, x):
        return self.HEAD(x)


class PatchedStep(torch.optim.Optimizer):
    """Its copy's step still leads to the original, as accelerate's did."""

    def __init__(self, optimizer):
        self.inner_steps = optimizer.step
        self.param_groups, self.state = optimizer.param_groups, optimizer.state
        self.defaults = optimizer.defaults
        self.step = lambda: self.inner_steps()

    def __getstate__(self):
        return dict(vars(self))

    def __setstate__(self, state):
        vars(self).update(state)


def test_an_optimizer_whose_copy_leads_back_is_not_stepped():
    model, inner = trained()
    train(model, NO_LABELS, steps=20)
    optimizer = PatchedStep(inner)
    before = state(model, optimizer=inner)
    report = diagnose(model, NO_LABELS, optimizer=optimizer, seconds=2)
    check_same(before, state(model, optimizer=inner))
    assert "PatchedStep cannot be copied: its copy leads back" in report.not_checked[TRIALS]


class Wrapper:
    """As accelerate, Lightning and others wrap an optimizer."""

    def __init__(self, optimizer):
        self._optimizer = optimizer

    def __getattr__(self, name):  # a deep copy of it never ends
        return getattr(self._optimizer, name)


def test_a_wrapped_optimizer_is_looked_into():
    model, optimizer = trained()
    assert inner_optimizer(Wrapper(optimizer)) is optimizer
    assert diagnose(model, batches(), optimizer=Wrapper(optimizer)).healthy


def test_what_a_hook_collects_is_put_back():
    model, seen = trained()[0], []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    model(X[:2])
    diagnose(model, batches(), seconds=3)
    assert seen == [1]


class Counting:
    """A loss that is no module, counts its calls and keeps a running number."""

    def __init__(self):
        self.calls, self.mean, self.log = 0, torch.zeros(()), {}

    def __call__(self, outputs, targets):
        self.calls += 1
        self.log[self.calls] = 1
        loss = F.cross_entropy(outputs, targets)
        self.mean.mul_(0.9).add_(0.1 * loss.detach())
        return loss


@pytest.mark.parametrize("wrap", [lambda loss: loss, lambda loss: lambda o, y: loss(o, y)])
def test_a_loss_with_a_state_is_put_back(wrap):
    loss = Counting()
    diagnose(trained()[0], batches(), loss_fn=wrap(loss))
    assert loss.calls == 0 and loss.mean == 0 and loss.log == {}


class Epochs(list):
    """Batches that count their passes and draw from a generator of their own."""

    def __init__(self, *parts):
        super().__init__(*parts)
        self.epoch, self.generator = 0, torch.Generator().manual_seed(1)

    def __iter__(self):
        self.epoch += 1
        order = torch.randperm(len(self), generator=self.generator).tolist()
        return iter([self[i] for i in order])


def test_a_loader_s_own_epoch_and_generator_are_put_back():
    data = Epochs(batches())
    before = data.generator.get_state()
    diagnose(trained()[0], data, eval_batches=data)
    assert data.epoch == 0 and data.generator.get_state().equal(before)


def test_an_input_that_the_model_writes_to_is_the_examination_s_own():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(8, 3))
    data = [(X, Y)]
    before = X.clone()
    diagnose(model, data)
    assert X.equal(before)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([torch.float32, torch.float16, torch.float64]))
def test_a_fingerprint_tells_any_training_step(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    one = torch.randn(20, 5, generator=generator).to(dtype)
    other = one + 1e-2 * torch.randn(20, 5, generator=generator).to(dtype)
    assert fingerprint(one) == fingerprint(one.clone())
    assert fingerprint(one) != fingerprint(other)


def test_a_change_that_nobody_could_foresee_is_taken_back_from_the_copy():
    model, optimizer = trained()
    notes = Notes([model, optimizer], [])
    notes.twins = proven_copies(model, optimizer, F.cross_entropy).twins
    before = state(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert notes.put_back() == []
    check_same(before, state(model))


def test_a_copy_shares_no_storage():
    model, optimizer = trained()
    ours = proven_copies(model, optimizer, nn.CrossEntropyLoss(weight=torch.ones(3)))
    assert not ours.no_trials and not ours.touched
    mine = {t.data_ptr() for t in tensors_of(model, optimizer)}
    theirs = {t.data_ptr() for t in tensors_of(ours.model, ours.optimizer)} - {0}
    assert theirs and not mine & theirs


def test_the_moments_of_an_optimizer_are_not_copied():
    model = nn.Linear(100, 100)
    optimizer = Adam(model.parameters())
    train(model, [(torch.randn(8, 100), torch.arange(8))], optimizer=optimizer, steps=1)
    ours = proven_copies(model, optimizer, F.cross_entropy).optimizer
    held = [v for state in ours.state.values() for v in state.values()]
    assert sum(v.numel() for v in held) == 2 and [s["step"] for s in ours.state.values()] == [1, 1]


@pytest.mark.filterwarnings("ignore")  # TorchScript is deprecated
@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, X[:2])])
@pytest.mark.parametrize("part", [False, True])
def test_a_script_module_is_examined_as_one_layer(make, part):
    """torch's own copy of one hands its gradients on to the original."""
    for last, cause in ((nn.Identity(), "healthy"), (nn.Softmax(1), "double_softmax")):
        network = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
        model = nn.Sequential(make(network), last) if part else make(nn.Sequential(network, last))
        optimizer = Adam(model.parameters(), 0.02)
        train(model, optimizer=optimizer)
        before = [t.clone() for t in [*model.state_dict().values(), *tensors_of(optimizer)]]
        gradients = [p.grad.clone() for p in model.parameters()]
        report = diagnose(model, batches(), optimizer=optimizer)
        assert report.cause == cause and "nothing changed" not in report.not_checked, report
        after = [*model.state_dict().values(), *tensors_of(optimizer)]
        assert all(map(torch.equal, before, after)) and model.training
        assert all(map(torch.equal, gradients, (p.grad for p in model.parameters())))


# ---- the libraries themselves ----


def test_accelerate_with_a_scheduler():
    accelerate = pytest.importorskip("accelerate", reason="needs accelerate")
    accelerator, model = accelerate.Accelerator(cpu=True), mlp()
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), 1e-3))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    for x, y in NO_LABELS:
        optimizer.zero_grad()
        accelerator.backward(F.cross_entropy(model(x), y))
        optimizer.step()
        scheduler.step()
    before = state(model, optimizer=optimizer.optimizer)
    report = diagnose(model, NO_LABELS, optimizer=optimizer, seconds=4)
    check_same(before, state(model, optimizer=optimizer.optimizer))
    assert "copied" not in report.not_checked.get(TRIALS, "")


@pytest.mark.filterwarnings("ignore")  # of Lightning's own
def test_lightning_with_the_optimizer_of_self_optimizers():
    lightning = pytest.importorskip("lightning", reason="needs lightning")
    reports = []

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network, self.automatic_optimization = mlp(), False

        def forward(self, x):
            return self.network(x)

        def training_step(self, batch, index):
            optimizer = self.optimizers()
            loss = F.cross_entropy(self(batch[0]), batch[1])
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            if index == 7:
                before = state(self, optimizer=optimizer.optimizer)
                reports.append(diagnose(self, batches(), optimizer=optimizer, seconds=4))
                check_same(before, state(self, optimizer=optimizer.optimizer))

        def configure_optimizers(self):
            return Adam(self.parameters(), 0.02)

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(batches(), batch_size=None))
    assert len(reports) == 1 and reports[0].healthy
