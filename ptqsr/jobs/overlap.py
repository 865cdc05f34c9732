"""Reading, making and writing at one time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, TypeVar

Item = TypeVar("Item")


def overlapped(
    items: Iterable[Item],
    read: Callable[[Item], Any],
    make: Callable[[Item, Any], Any],
    write: Callable[[Item, Any], Any],
    *,
    ahead: int,
    writers: int = 1,
) -> Generator[tuple[Item, Future[Any]], None, None]:
    """Yield every item, in order, with the future of what `write` returned or of what was raised.

    read(item) runs in a thread of its own, make(item, what was read) in the caller's, one at a
    time, and write(item, what was made) in `writers` others; each sees the items in their order. At
    most `ahead` items are read before they are made, and so many wait to be written: with 0
    everything happens one after the other. An item that fails does not stop those behind it.
    """
    waiting = iter(items)
    reading: deque[tuple[Item, Future[Any]]] = deque()
    writing: deque[tuple[Item, Future[Any]]] = deque()
    reader, writer = ThreadPoolExecutor(1, "read"), ThreadPoolExecutor(writers, "write")
    try:
        while True:
            for item in islice(waiting, 1 + ahead - len(reading)):
                reading.append((item, reader.submit(read, item)))
            if not reading:
                break
            item, found = reading.popleft()
            try:
                made = make(item, found.result())
            except Exception as error:
                written: Future[Any] = Future()
                written.set_exception(error)
            else:
                written = writer.submit(write, item, made)
                del made
            del found
            writing.append((item, written))
            while len(writing) > ahead:
                yield _done(writing.popleft())
        while writing:
            yield _done(writing.popleft())
    finally:
        # Whatever stops this: what is being written is finished, what waits is not begun.
        reader.shutdown(cancel_futures=True)
        writer.shutdown(cancel_futures=True)


def _done(entry: tuple[Item, Future[Any]]) -> tuple[Item, Future[Any]]:
    wait([entry[1]])
    return entry
