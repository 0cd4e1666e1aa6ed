"""The state of a bank as tensors, numbers and plain values; all of it is checked before anything is restored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from dglab.testtime.cached import CachedStatistics
from dglab.testtime.memory import Memory
from dglab.testtime.style import Style
from dglab.utils.errors import InputError

if TYPE_CHECKING:
    from dglab.testtime.bank import ImageBank

STATE_KEYS = {
    "arrivals", "arrival", "domains", "styles", "center", "images", "moments", "calls", "generator", "streams"
}  # fmt: skip


def state_of(bank: ImageBank) -> dict[str, Any]:
    """What :meth:`ImageBank.state_dict` returns."""
    memory, used = bank.memory, len(bank)
    cached = isinstance(bank.statistics, CachedStatistics)
    return {
        "arrivals": memory.arrivals,
        "arrival": memory.arrived.clone(),
        "domains": list(memory.domains),
        "styles": [ring[:used].clone() for ring in memory.styles.styles] if memory.styles else [],
        "center": memory.styles.center if memory.styles else None,
        "images": [] if cached else list(memory.kept),
        "moments": torch.stack(memory.kept) if cached and used else None,  # used x 2 x K
        "calls": bank.statistics.calls if cached else None,
        "generator": memory.generator.get_state(),
        "style_layer": bank.style_layer,
        "guard": None if bank.guard is None else bank.guard.state_dict(),
        "streams": {name: state_of(stream) for name, stream in bank.streams.items()},
    }


Restored = tuple["ImageBank", Memory, list[str] | None, dict[str, Any] | None]


def restored_from(bank: ImageBank, state: dict[str, Any]) -> Iterator[Restored]:
    """This bank and its streams, each with its restored memory, for cached statistics the names of its layers, and the
    state of its guard.

    Raises:
        InputError: for what is no state of such a bank; nothing has changed then.
    """
    missing = STATE_KEYS - (state.keys() if isinstance(state, dict) else set())
    if missing:
        raise InputError(f"this is not the state of a bank: it lacks {', '.join(sorted(missing))}; pass a state_dict()")
    used = len(state["domains"])
    if used > bank.capacity:
        raise InputError(f"the state holds {used} images, this bank's capacity is {bank.capacity}")
    cached = isinstance(bank.statistics, CachedStatistics)
    if used and cached != (state["moments"] is not None):
        kind = bank.options["statistics"]
        raise InputError(f"the state is of a bank with other statistics than this one's, {kind!r}")
    layer = state.get("style_layer", bank.style_layer)  # an earlier version kept neither this nor a guard
    if layer != bank.style_layer:
        raise InputError(f"the state has styles of {layer!r}, this bank takes them from {bank.style_layer!r}")
    guard = state.get("guard")
    if (bank.guard is None) != (guard is None):
        there = "without" if guard is None else "with"
        raise InputError(f"the state is of a bank {there} a guard, unlike this one; pass the state of a bank like this")
    kept = list(state["moments"]) if cached and used else state["images"]
    lengths = {len(state["arrival"]), len(kept), *(len(part) for part in state["styles"]), used}
    if len(lengths) > 1:
        raise InputError(
            f"the state holds {used} domains, {len(state['arrival'])} arrivals, {len(kept)} images and styles of "
            f"{', '.join(str(len(part)) for part in state['styles'])}; expected as many of each: it is damaged"
        )
    if not all(torch.isfinite(tensor).all() for tensor in (*state["styles"], *kept)):
        raise InputError("the state holds values that are not finite; start with an empty bank")
    device = next((p.device for p in bank.model.parameters()), torch.device("cpu"))
    memory = Memory(bank.capacity, bank.options["removal"], bank.options["seed"])
    memory.arrivals, memory.arrived = state["arrivals"], state["arrival"].cpu().clone()
    memory.domains, memory.kept = list(state["domains"]), [tensor.to(device) for tensor in kept]
    memory.generator.set_state(state["generator"].cpu().clone())
    if used:
        memory.restore_styles(Style(*(part.to(device) for part in state["styles"])), state["center"].to(device))
    yield bank, memory, state["calls"] if cached else None, guard
    for name, nested in state["streams"].items():
        yield from restored_from(bank.stream(name), nested)
