"""A training of two processes; the first one asks for a diagnosis while the second waits.

A module of its own: each process imports it, and nothing else of the tests.
"""

import torch
import torch.nn.functional as F
from torch import distributed, nn

from imbalkit import diagnose


def work(rank, port, answer):
    torch.set_num_threads(1)
    store = distributed.TCPStore("127.0.0.1", port, 2, rank == 0)
    distributed.init_process_group("gloo", rank=rank, world_size=2, store=store)
    torch.manual_seed(0)
    x, y = torch.randn(96, 8), torch.arange(96) % 3
    network = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    model = nn.parallel.DistributedDataParallel(network)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    batches = list(zip(x.split(32), y.split(32), strict=True))
    for inputs, targets in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    if rank == 0:
        report = diagnose(model, batches, optimizer=optimizer, seconds=3)
        answer.write_text(report.cause, encoding="utf-8")
    distributed.barrier()
    distributed.destroy_process_group()
