"""Small trainings by other people's trainers, for the tests that have the real libraries."""

import pytest
import torch
import torch.nn.functional as F
from test_diagnose import mlp

WORDS = torch.randint(20, (96, 1), generator=torch.Generator().manual_seed(0)).repeat(1, 7)
TOPICS = WORDS[:, 0] % 3
# Neither logs nor files nor bars.
QUIET_LIGHTNING = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
    "enable_progress_bar": False, "enable_model_summary": False,
}  # fmt: skip
QUIET_TRANSFORMERS = {
    "max_grad_norm": 0, "report_to": "none", "save_strategy": "no", "use_cpu": True,
    "num_train_epochs": 20,
}  # fmt: skip


def lightning_or_skip():
    return pytest.importorskip("lightning", reason="needs lightning")


def transformers_or_skip():
    pytest.importorskip("accelerate", reason="needs accelerate")
    return pytest.importorskip("transformers", reason="needs transformers")


def lightning_module(rate):
    """A LightningModule, untrained."""

    class Module(lightning_or_skip().LightningModule):
        def __init__(self):
            super().__init__()
            self.network = mlp()

        def forward(self, x):
            return self.network(x)

        def training_step(self, batch, index):
            return F.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), rate, momentum=0.9)

    return Module()


def small_bert():
    """A BERT of three topics, and its examples."""
    transformers = transformers_or_skip()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=20, intermediate_size=32, num_labels=3, **sizes)
    transformers.set_seed(0)
    rows = [
        {"input_ids": w, "attention_mask": torch.ones_like(w), "labels": t}
        for w, t in zip(WORDS, TOPICS, strict=True)
    ]
    return transformers.BertForSequenceClassification(config), rows
