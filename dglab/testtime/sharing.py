"""Locks: one thread at a time overrides a model's statistics, or torch's settings for the whole process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn

from dglab.models.batchnorm import batchnorm_layers
from dglab.utils.interrupts import deliver

PATIENCE = 0.5  # seconds between checks for Ctrl-C while waiting


class _Locks:
    """A re-entrant lock for each model, as long as the model lives.

    Keyed by the model's first BatchNorm layer, so that a model and a wrapper of it share one; not an attribute of the
    layer, because a lock can be neither copied nor saved.
    """

    def __init__(self) -> None:
        self._own, self._locks = threading.Lock(), WeakKeyDictionary()

    def of(self, model: nn.Module) -> threading.RLock:
        layer = next(iter(batchnorm_layers(model).values()), model)
        with self._own:
            return self._locks.setdefault(layer, threading.RLock())


_locks = _Locks()


@contextmanager
def one_at_a_time(model: nn.Module) -> Iterator[None]:
    """Within the block, no other thread overrides the statistics of this model; others wait until this one is done."""
    lock = _locks.of(model)
    while not lock.acquire(timeout=PATIENCE):
        deliver()
    try:
        yield
    finally:
        lock.release()


class _Eager:
    """Sets torch.compile's stance, which is global to the process; the last thread to leave restores it."""

    def __init__(self) -> None:
        self._own, self._inside, self._stance = threading.Lock(), 0, None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._own:
            if self._inside == 0:
                self._stance = torch.compiler.set_stance("force_eager")
                self._stance.__enter__()
            self._inside += 1
        try:
            yield
        finally:
            with self._own:
                self._inside -= 1
                if self._inside == 0:
                    self._stance.__exit__(None, None, None)


uncompiled = _Eager()  # inside uncompiled(), compiled modules run eagerly
