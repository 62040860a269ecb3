"""The README's lines for other people's projects, with the real libraries where they are."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_diagnose import batches, mlp
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from trainers import (
    QUIET_LIGHTNING,
    QUIET_TRANSFORMERS,
    lightning_module,
    lightning_or_skip,
    small_bert,
    transformers_or_skip,
)

from imbalkit import diagnose


@pytest.mark.filterwarnings("ignore")  # of transformers' own
@pytest.mark.parametrize(("rate", "healthy"), [(0.01, True), (30.0, False)])
def test_the_trainer_of_transformers(rate, healthy, tmp_path):
    transformers, (model, rows) = transformers_or_skip(), small_bert()
    arguments = transformers.TrainingArguments(
        str(tmp_path), learning_rate=rate, disable_tqdm=True, **QUIET_TRANSFORMERS
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    report = diagnose(
        trainer.model,
        trainer.get_train_dataloader(),
        optimizer=trainer.optimizer,
        eval_batches=trainer.get_eval_dataloader(),
    )
    assert report.healthy == healthy, report


@pytest.mark.filterwarnings("ignore")  # of Lightning's own
@pytest.mark.parametrize(("rate", "cause"), [(0.02, "healthy"), (300.0, "learning_rate_too_high")])
def test_the_trainer_of_lightning(rate, cause):
    module = lightning_module(rate)
    loader = loader_of(*(torch.cat(parts) for parts in zip(*batches(), strict=True)))
    trainer = lightning_or_skip().Trainer(max_epochs=8, **QUIET_LIGHTNING)
    trainer.fit(module, loader)
    report = diagnose(module, loader, optimizer=trainer.optimizers[0], eval_batches=loader)
    assert report.cause == cause, report


def test_a_model_of_timm():
    timm = pytest.importorskip("timm", reason="needs timm")
    torch.manual_seed(0)
    model = nn.Sequential(timm.create_model("resnet10t", num_classes=3), nn.Softmax(1))
    images, y = torch.randn(48, 3, 32, 32), torch.arange(48) % 3
    images += y[:, None, None, None]
    data = list(zip(images.split(16), y.split(16), strict=True))
    report = diagnose(model, data, seconds=5)
    assert report.cause == "double_softmax", report


# ---- the README's blocks, as they stand ----

ROOT = Path(__file__).parents[1]
PART = re.search(
    r"\*\*To mend your own model\.\*\*.*?(?=\*\*To read the code)",
    (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL,
)[0]  # fmt: skip
BLOCKS = re.findall(r"```(?:python|sh)\n(.*?)```", PART, re.DOTALL)
TORCH, TIMM, LIGHTNING, TRANSFORMERS, CHECK, COMMAND = BLOCKS


def run(block, **names):
    """Execute it with what the reader has; it may print."""
    exec(compile(block, "README.md", "exec"), names)
    return SimpleNamespace(**names)


def loader_of(x, y):
    return DataLoader(TensorDataset(x, y), 32, shuffle=True)


def mine(rate=0.1, *last):
    """What somebody has who trains in plain torch, after twenty epochs."""
    model, loss_fn = mlp(3, *last), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), rate)
    for _ in range(20):
        for x, y in batches():
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
    x, y = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    loaders = {"train_loader": loader_of(x, y), "test_loader": loader_of(x, y)}
    return {"model": model, "loss_fn": loss_fn, "optimizer": optimizer} | loaders


def test_the_block_for_plain_torch():
    assert run(TORCH, **mine()).report.healthy
    assert run(TORCH, **mine(0.1, nn.Softmax(1))).report.cause == "double_softmax"


def test_the_block_for_timm(capsys):
    pytest.importorskip("timm", reason="needs timm")
    y = torch.arange(40) % 10
    run(TIMM, train_loader=loader_of(torch.randn(40, 3, 32, 32) + y[:, None, None, None], y))
    assert capsys.readouterr().out.startswith("Diagnosis: ")


@pytest.mark.filterwarnings("ignore")  # of Lightning's own, and the callback's
def test_the_block_for_lightning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for its logs
    module, mine_too = lightning_module(300.0), mine()
    names = {name: mine_too[name] for name in ("loss_fn", "train_loader")}
    watch = run(LIGHTNING, module=module, **names).watch
    assert watch.report.cause == "learning_rate_too_high", watch.report


@pytest.mark.filterwarnings("ignore")  # of transformers' own, and the callback's
def test_the_block_for_transformers(tmp_path):
    model, rows = small_bert()
    arguments = transformers_or_skip().TrainingArguments(
        str(tmp_path), learning_rate=30.0, **QUIET_TRANSFORMERS
    )
    watch = run(TRANSFORMERS, model=model, arguments=arguments, train_set=rows).watch
    assert watch.report is not None and not watch.report.healthy


TRAIN = """
import torch
from torch import nn

torch.manual_seed(0)
y = torch.arange(240) % 3
x = torch.randn(240, 8) + 3 * nn.functional.one_hot(y, 8)
train_loader, loss_fn = list(zip(x.split(30), y.split(30))), nn.CrossEntropyLoss()
model = nn.Sequential(nn.Linear(8, 3), LAST)
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
for a, b in 5 * train_loader:
    optimizer.zero_grad()
    loss_fn(model(a), b).backward()
    optimizer.step()
"""


@pytest.mark.parametrize(("last", "status"), [("nn.Identity()", 0), ("nn.Softmax(1)", 1)])
def test_the_blocks_for_ci(last, status, tmp_path):
    (tmp_path / "my_project").mkdir()
    (tmp_path / "my_project" / "train.py").write_text(TRAIN.replace("LAST", last))
    (tmp_path / "my_project" / "check.py").write_text(CHECK)
    program, *arguments = shlex.split(COMMAND)
    command = [sys.executable, "-m", program, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
