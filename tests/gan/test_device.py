"""The precision of float32 on CUDA while scores are made; the settings exist without a GPU too."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from anogan.config import RuntimeConfig
from anogan.gan.device import full_float32, set_threads

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def _precisions() -> tuple[str, str]:
    return torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision


@pytest.fixture(autouse=True)
def tf32() -> Iterator[None]:
    before = _precisions()
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = "tf32"
    yield
    torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision = before


def test_tf32_is_off_within_and_as_before_afterwards() -> None:
    with full_float32(CUDA):
        assert _precisions() == ("ieee", "ieee")
    assert _precisions() == ("tf32", "tf32")

    with pytest.raises(KeyError), full_float32(CUDA):
        raise KeyError
    assert _precisions() == ("tf32", "tf32")


def test_on_a_cpu_nothing_is_set() -> None:
    with full_float32(CPU):
        assert _precisions() == ("tf32", "tf32")


def test_the_last_of_several_threads_gives_it_back() -> None:
    inside, leave = threading.Event(), threading.Event()

    def score() -> None:
        with full_float32(CUDA):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=score)
    with full_float32(CUDA):
        thread.start()
        assert inside.wait(10)
    assert _precisions() == ("ieee", "ieee")  # The other one still computes.
    leave.set()
    thread.join()
    assert _precisions() == ("tf32", "tf32")


def test_a_model_without_a_number_of_threads_has_what_was_there_before_another() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        set_threads(RuntimeConfig(threads=1))
        set_threads(RuntimeConfig(threads=3))
        assert torch.get_num_threads() == 3
        set_threads(RuntimeConfig())
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)  # The caller's own wish stays.
        set_threads(RuntimeConfig())
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
