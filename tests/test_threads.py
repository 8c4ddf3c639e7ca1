"""Threads that compute ahead."""

from __future__ import annotations

import threading

import pytest
import torch

from ideogram_q8.machine.threads import ahead, in_background, workers


def test_results_come_in_order_and_not_too_far_ahead():
    begun: list[int] = []

    def square(number: int) -> int:
        begun.append(number)
        return number * number

    with workers(3) as pool:
        for number, result in ahead(pool, square, range(50), depth=4):
            assert result == number * number
            assert max(begun) <= number + 4
    assert sorted(begun) == list(range(50))


def test_an_error_comes_in_its_turn_and_ends_the_work():
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError), workers(2) as pool:
        seen += (result for _, result in ahead(pool, lambda number: 6 // (3 - number), range(1000), depth=4))
    assert seen == [2, 3, 6]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPool") and thread.is_alive()]


def test_workers_compute_on_one_core_and_others_as_before():
    before = torch.get_num_threads()
    with workers(2) as pool:
        assert [pool.submit(torch.get_num_threads).result() for _ in range(4)] == [1] * 4
        assert torch.get_num_threads() == before
        assert in_background(torch.get_num_threads).result(60) == before


def test_errors_in_the_background_come_with_the_result():
    with pytest.raises(ZeroDivisionError):
        in_background(lambda: 1 // 0).result(60)
