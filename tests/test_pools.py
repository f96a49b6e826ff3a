"""Work that is spread over workers: who gets the next item, and when."""

from __future__ import annotations

from collections.abc import Iterator

from stfcodec.batch import pools


class Squares:
    """A worker that has its answer at once."""

    def __init__(self) -> None:
        self.item: int | None = None
        self.is_starting = True
        self.is_alive = True
        self.reason = ""
        self.name = "squares"

    def give(self, item: int) -> None:
        self.item = item

    def receive(self) -> int | None:
        was_starting, self.is_starting = self.is_starting, False
        if was_starting:
            return None
        assert self.item is not None
        square, self.item = self.item**2, None
        return square


def spread(items: list[int], workers: list[Squares], count: int) -> Iterator[pools.Done[int, int]]:
    left = list(items)

    def take() -> int | None:
        return left.pop(0) if left else None

    def the_first(waited: list[Squares]) -> list[Squares]:
        return waited[:1]

    return pools.spread(take, lambda worker: True, Squares, the_first, count, workers)


def test_workers_go_on_while_a_result_is_looked_at() -> None:
    workers: list[Squares] = []
    found = spread([3, 4, 5], workers, 1)
    assert next(found) == pools.Done(3, 9, "squares")
    assert workers[0].item == 4
    assert [done.outcome for done in found] == [16, 25]


def test_what_a_result_brings_is_done_too() -> None:
    """As a chunk that is to be tried again, once there is no other."""
    items, workers, found = [2], list[Squares](), []
    run = pools.spread(
        lambda: items.pop() if items else None,
        lambda worker: True,
        Squares,
        lambda waited: waited,
        2,
        workers,
    )
    for done in run:
        found.append(done.outcome)
        if done.item == 2:
            items.append(6)
    assert found == [4, 36]
