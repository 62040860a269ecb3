"""The README's lines on other people's trainers, with the real libraries where they are."""

import pytest
import torch
import torch.nn.functional as F
from test_diagnose import batches, mlp
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from imbalkit import diagnose

WORDS = torch.randint(20, (96, 1), generator=torch.Generator().manual_seed(0)).repeat(1, 7)
TOPICS = WORDS[:, 0] % 3


@pytest.mark.filterwarnings("ignore")  # of transformers' own
@pytest.mark.parametrize(("rate", "healthy"), [(0.01, True), (30.0, False)])
def test_the_trainer_of_transformers(rate, healthy, tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    pytest.importorskip("accelerate", reason="needs accelerate")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=20, intermediate_size=32, num_labels=3, **sizes)
    transformers.set_seed(0)
    rows = [
        {"input_ids": w, "attention_mask": torch.ones_like(w), "labels": t}
        for w, t in zip(WORDS, TOPICS, strict=True)
    ]
    options = {"max_grad_norm": 0, "report_to": "none", "save_strategy": "no", "use_cpu": True}
    trainer = transformers.Trainer(
        transformers.BertForSequenceClassification(config),
        transformers.TrainingArguments(
            str(tmp_path), num_train_epochs=20, learning_rate=rate, disable_tqdm=True, **options
        ),
        train_dataset=rows,
        eval_dataset=rows,
    )
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
    lightning = pytest.importorskip("lightning", reason="needs lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = mlp()

        def forward(self, x):
            return self.network(x)

        def training_step(self, batch, index):
            return F.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), rate, momentum=0.9)

    x, y = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    loader = DataLoader(TensorDataset(x, y), 32, shuffle=True)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    module = Module()
    trainer = lightning.Trainer(
        max_epochs=8, accelerator="cpu", enable_model_summary=False, **quiet
    )
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
