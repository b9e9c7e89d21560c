"""Run cells, one after another, on one worker or on several."""

from __future__ import annotations

import gc
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from lotus_ray.base.errors import DataError, ImagesDoNotFit, LotusRayError
from lotus_ray.base.memory import keep_freed_memory, release_memory
from lotus_ray.data.batches.dataset import ImageDataset
from lotus_ray.data.batches.shares import Shares
from lotus_ray.job.cells import Cell
from lotus_ray.job.plugins.use import load_from_store
from lotus_ray.job.spans import Span
from lotus_ray.job.work_order import WorkOrder
from lotus_ray.models.precision import PRECISIONS, use_precision
from lotus_ray.store.results import Store
from lotus_ray.trial.cell import RunCell, run_cell
from lotus_ray.trial.context import Context
from lotus_ray.trial.images import Decoders, TrialImages, prepare_images
from lotus_ray.trial.inputs import ensure_access, load_roles
from lotus_ray.trial.original import Wait, no_wait
from lotus_ray.unlearning.contract import Workers
from lotus_ray.unlearning.position import Position

OPEN_GROUPS = 2  # whose images and original stay loaded


class CellRunner:
    """Runs cells of any group on this worker. What the last groups loaded stays loaded."""

    def __init__(
        self,
        workers: Workers,
        device: torch.device,
        facts: Mapping[str, Any],
        decoders: Callable[[WorkOrder], Decoders],
        place: str,
        first_error: Callable[[LotusRayError | None], LotusRayError | None] = lambda own: own,
        wait_for_original: Wait = no_wait,
        commit: Callable[[RunCell], None] = RunCell.commit,
        before_training: Callable[[], None] = lambda: None,
    ) -> None:
        """Do slow first-time work, such as imports, before the clock of any cell starts.

        Args:
            workers: the workers that share each cell.
            device: of this worker.
            facts: from `machine_facts`, for the rows.
            decoders: returns what decodes the images of a group.
            place: a name for what runs the cells.
            first_error: given the error of this worker, returns the first worker's that has one.
            wait_for_original: waits until the row of an original may be there.
            commit: commits a cell, now or later; an original now.
            before_training: called before each cell's seconds are counted.
        """
        self._workers = workers
        self._device = device
        self._facts = dict(facts)
        self._decoders = decoders
        self._place = place
        self._first_error = first_error
        self._wait_for_original = wait_for_original
        self._commit = commit
        self._before_training = before_training
        self.position = Position()  # of the cell that runs
        self.is_short_of_room = False  # for the images of several groups, on this node
        self._waited = 0.0
        self._contexts: OrderedDict[str, Context] = OrderedDict()
        _warm_up()

    def run(self, work_order: WorkOrder, cell: Cell) -> Span | None:
        """Run a missing cell, and have it committed. Every worker calls this with the same cell.

        Only the first worker uses the store.

        Args:
            work_order: the group of the cell.
            cell: to run.

        Returns:
            When it ran; None if its row was there already.

        Raises:
            LotusRayError: see `open`, on one worker.
            Exception: see `run_cell`.
        """
        if error := self.open(work_order):
            raise error
        context = self.context(work_order)
        begin = time.time()
        if context.first_decides(context.is_first and work_order.is_settled(cell, context.store)):
            return None
        self._waited = 0.0
        self._commit(run_cell(context, cell))
        release_memory()
        return Span(cell.cell_id, self._place, begin, time.time(), self._waited)

    def open(self, work_order: WorkOrder) -> LotusRayError | None:
        """Load what the cells of a group share. The group that was not used for longest is closed.

        Returns:
            Why the group's images or the device cannot be used, the same on every worker; or None.
        """
        key = _key(work_order)
        if key in self._contexts and self._is_lost(key):
            del self._contexts[key]
        if key in self._contexts:
            use_precision(work_order.group.precision, self._device)
        else:
            while len(self._contexts) >= OPEN_GROUPS:
                self._contexts.popitem(last=False)
                release_memory()
            images, error = self._prepare(work_order)
            if isinstance(error, ImagesDoNotFit) and self._contexts:
                del images
                self.close()  # files of open groups stay, and leave no room for this one
                self.is_short_of_room = True
                images, error = self._prepare(work_order)
            if images is None or error:
                return error
            self.is_short_of_room |= images.files.removed > 0
            self._contexts[key] = self._context(work_order, images)
        self._contexts.move_to_end(key)
        return None

    def rest(self) -> None:
        """Let other places of the node remove images of open groups, until one is opened again."""
        for context in self._contexts.values():
            context.trial_images.files.rest()

    def close(self) -> None:
        """Close all groups."""
        self._contexts.clear()
        gc.collect()

    def is_open(self, work_order: WorkOrder) -> bool:
        """Return True if a group is open."""
        return _key(work_order) in self._contexts

    def _is_lost(self, key: str) -> bool:
        """Use an open group again. Return True if a worker's node has removed images of it."""
        is_whole = self._contexts[key].trial_images.files.use()
        removed = None if is_whole else DataError("images of an open group were removed")
        return self._first_error(removed) is not None

    def context(self, work_order: WorkOrder) -> Context:
        """Return what the cells of an open group share."""
        return self._contexts[_key(work_order)]

    def _context(self, work_order: WorkOrder, images: TrialImages) -> Context:
        group = work_order.group
        dataset = ImageDataset(
            images.pixels,
            images.roles,
            group.transform,
            group.seed,
            self._device,
            PRECISIONS[group.precision].dtype,
            self._workers,
            stored=images.stored,
            window=group.shuffle_window,
            shares=Shares.agreed(self._workers, images.pixels.held, images.stored, self._device),
        )
        dataset.load()
        return Context(
            work_order,
            Store.open(work_order.store),
            images,
            dataset,
            self._workers,
            self._device,
            self._facts,
            partial(self._wait, work_order),
            self._before_training,
            self.position,
        )

    def _wait(self, work_order: WorkOrder) -> None:
        begin = time.time()
        self._wait_for_original(work_order)
        self._waited += time.time() - begin

    def _prepare(self, work_order: WorkOrder) -> tuple[TrialImages | None, LotusRayError | None]:
        """Return the images of a group on this worker's node, or why a worker cannot use them."""
        images, own = None, None
        try:
            use_precision(work_order.group.precision, self._device)
            ensure_access(work_order)
            load_from_store(Store.open(work_order.store), work_order.plugins)
            images = prepare_images(
                work_order.group,
                load_roles(work_order),
                work_order.cache_space,
                self._decoders(work_order),
                work_order.max_bad_images,
                self._workers,
            )
        except LotusRayError as error:
            own = error.with_traceback(None)  # it would keep the files open
        return images, self._first_error(own)


def _key(work_order: WorkOrder) -> str:
    return work_order.group.original.cell_id


def _warm_up() -> None:
    import sklearn.linear_model  # noqa: F401

    keep_freed_memory()
    weight = torch.zeros(1, requires_grad=True)
    weight.grad = torch.zeros(1)
    torch.optim.SGD([weight], lr=0.1).step()
