"""How memory is counted: by what tensors hold, whatever else goes on in the process."""

import threading

import torch

from dglab.bench.measure import peak_memory

KIB = 2**10


def zeros(kib: int) -> torch.Tensor:
    return torch.zeros(kib * KIB, dtype=torch.uint8)


def test_views_and_changes_in_place_hold_nothing_new():
    before = zeros(4)

    def case():
        before.add_(1)
        new = zeros(3)
        return new[: 2 * KIB].view(2, KIB).add_(1), before[:5]

    assert peak_memory(case, "cpu") == peak_memory(case, "cpu") == 3 * KIB


def test_what_was_held_before_makes_room():
    held = [zeros(10)]

    def case():
        held.clear()
        return zeros(4), zeros(5)

    assert peak_memory(case, "cpu") == 0
    assert peak_memory(case, "cpu") == 9 * KIB


def test_a_backward_pass_holds_gradients_and_saved_activations():
    weight = torch.ones(KIB, requires_grad=True)  # 4 KiB

    def case():
        weight.grad = None
        (weight * 2).exp().sum().backward()  # at the end of the forward pass the exponential alone is kept

    first = peak_memory(case, "cpu")
    assert 8 * KIB <= first < 13 * KIB
    assert peak_memory(case, "cpu") == first - 4 * KIB  # the old gradient makes room for the new one


def test_other_threads_do_not_count():
    start, done, kept = threading.Event(), threading.Event(), []

    def other():
        start.wait()
        kept.append(zeros(1000))
        done.set()

    def case():
        start.set()
        done.wait()
        return zeros(1)

    thread = threading.Thread(target=other)
    thread.start()
    assert peak_memory(case, "cpu") == KIB
    thread.join()
