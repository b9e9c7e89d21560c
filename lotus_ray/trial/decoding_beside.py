"""Which part of a cell's ranked seconds its nodes spent decoding, for its row."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from lotus_ray.trial.context import Context


@dataclass
class DecodingBeside:
    """Measures, over all workers of a cell, how long images were decoded beside it."""

    context: Context
    share: float | None = None  # of the seconds of all workers; None: no part

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Measure a block, which every worker runs. Where images stream, all of it counts."""
        context, begin = self.context, time.time()
        streamed = context.trial_images.streamed
        yield
        end = time.time()
        if context.trial_images.streamed > streamed:
            seconds = end - begin
        else:
            seconds = context.work_order.cache_space.decode_log.seconds_between(begin, end)
        own = torch.tensor([seconds, end - begin], dtype=torch.float64, device=context.device)
        beside, whole = context.workers.sum(own).tolist()
        self.share = round(beside / whole, 4) if beside else None
