"""Starts one process per device and joins them; the calling process is rank 0."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import distributed

from anogan.config import Config, config_from_dict, config_to_dict
from anogan.errors import ConfigError, TrainingError
from anogan.gan import ranks

GRACE_S = 5.0
_READY = "ready"
_ENVIRONMENT = ("MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")


def share_out(config: Config, device: torch.device) -> int:
    """How many processes `runtime.devices` means on this machine.

    Raises:
        ConfigError: There are fewer devices, or a batch cannot be shared out evenly.
    """
    wanted = config.runtime.devices
    there = torch.cuda.device_count() if device.type == "cuda" else 1
    if wanted == "auto":
        return next(n for n in range(there, 0, -1) if n == 1 or not _uneven(config, n))
    if wanted > 1 and device.type not in ("cpu", "cuda"):
        raise ConfigError(
            f"runtime.devices {wanted} needs device cpu or cuda, not {device.type}; set it to 1."
        )
    if device.type == "cuda" and wanted > there:
        raise ConfigError(f"runtime.devices is {wanted}, but there are {there} GPUs here; set it to auto.")
    if wanted > 1 and (uneven := _uneven(config, wanted)):
        raise ConfigError(uneven)
    return wanted


def _uneven(config: Config, n: int) -> str | None:
    """The first batch size that n processes cannot share, told in words."""
    gan = config.gan
    # Beside a joint encoder D sees half of the tiles, and half as many codes of the prior.
    multiples = {
        "gan.batch_size": (gan.batch_size, n * (4 if config.encoder.mode == "joint" else gan.packing))
    }
    if gan.mode_seeking_weight > 0:
        multiples["gan.batch_size"] = (gan.batch_size, 2 * multiples["gan.batch_size"][1])
    if config.head.enabled:
        multiples["head.batch_size"] = (config.head.batch_size, n * gan.packing)
    for name, (size, multiple) in multiples.items():
        if size % multiple:
            return (
                f"{name} {size} cannot be shared out evenly to {n} processes; set it to a multiple of "
                f"{multiple}, or runtime.devices to another number."
            )
    return None


@dataclass(frozen=True)
class _Place:
    """Where a process stands among all: what it must know to join them."""

    rank: int
    count: int
    port: int
    device: str


class _Follower:
    """A started process, rank 1 and up. It lives as long as its standard input is open."""

    def __init__(self, module: str, place: _Place, job: Mapping[str, Any]) -> None:
        """Starts `python -m module` and hands it its place and job as JSON."""
        self.rank = place.rank
        self._log: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        # It imports what this process has imported, wherever that was found.
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": path},
            encoding="utf-8",
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"place": asdict(place), "job": job}) + "\n")
        self._process.stdin.flush()

    def is_ready(self) -> bool:
        """Waits until it has imported what it needs; False if it ended instead."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip() == _READY

    def has_failed(self) -> bool:
        """Whether it has ended with an error."""
        return self._process.poll() not in (None, 0)

    def last_words(self) -> str:
        """The last line that it wrote, mostly its error."""
        self._log.seek(0)
        lines = [line.strip() for line in self._log if line.strip()]
        return lines[-1] if lines else f"exit code {self._process.poll()}"

    def end(self, *, kill: bool) -> None:
        """Waits for it to finish, or kills it."""
        try:
            if kill:
                self._process.kill()
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._log):
            if file is not None:
                file.close()


@contextmanager
def together(
    count: int, module: str, config: Config, device: torch.device, job: Mapping[str, Any]
) -> Iterator[torch.device]:
    """Trains on `count` devices inside the context; gives this process's device.

    Args:
        count: From `share_out`; with 1 nothing is started.
        module: What each further process runs with `python -m`; it calls `follow`.
        config: Given to each process.
        device: cpu or cuda.
        job: What else each process must know, in JSON's types.

    Raises:
        TrainingError: Another process ended before its time.
    """
    if count == 1:
        yield device
        return
    port, told = _free_port(), {"config": config_to_dict(config), **job}
    places = [_Place(rank, count, port, device.type) for rank in range(count)]
    crew: list[_Follower] = []
    finished = False
    try:
        crew += [_Follower(module, place, told) for place in places[1:]]
        for follower in crew:
            if not follower.is_ready():
                raise TrainingError(_loss(follower, count))
        with _joined(places[0], config) as own_device, _watched(crew, device):
            yield own_device
        finished = True
    except RuntimeError as error:  # What a collective raises when a process is gone.
        fallen = _fallen(crew)
        if fallen is None:
            raise
        raise TrainingError(_loss(fallen, count)) from error
    finally:
        for follower in crew:
            follower.end(kill=not finished)


def _loss(follower: _Follower, count: int) -> str:
    return (
        f"Process {follower.rank + 1} of {count} ended before the training did ({follower.last_words()}); go "
        "on with --resume, with runtime.devices=1 if it happens again."
    )


def _fallen(crew: Sequence[_Follower]) -> _Follower | None:
    """A follower that has failed; waits a little, since its end may only be on its way."""
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline:
        for follower in crew:
            if follower.has_failed():
                return follower
        time.sleep(0.05)
    return None


@contextmanager
def _watched(crew: Sequence[_Follower], device: torch.device) -> Iterator[None]:
    """Frees this process from waiting for one that is gone: gloo notices by itself, NCCL does not."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            if any(follower.has_failed() for follower in crew):
                distributed.distributed_c10d._abort_process_group()
                return

    if device.type == "cuda":
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def follow(work: Callable[[Config, Mapping[str, Any], torch.device], None]) -> None:
    """The whole life of a further process: reads its job, joins the others, works.

    Args:
        work: Called with config, job and this process's device; what it raises ends the training of all.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first saves, and ends the others.
    told = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    config = config_from_dict(told["job"].pop("config"), "the first process")
    print(_READY, flush=True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # Nobody reads the pipe any more.
    with _joined(_Place(**told["place"]), config) as device:
        work(config, told["job"], device)


def _end_with_the_first() -> None:
    sys.stdin.read()  # Returns when the first process closes the pipe, or is killed.
    os._exit(1)


@contextmanager
def _joined(place: _Place, config: Config) -> Iterator[torch.device]:
    """Connects to the others; leaves the process as it was."""
    from anogan.gan.local_cluster import launched

    environment = {name: os.environ.get(name) for name in _ENVIRONMENT}
    threads = torch.get_num_threads()
    fabric = launched(place.rank, place.count, place.port, torch.device(place.device))
    # Together they have the cores that one would have.
    torch.set_num_threads(config.runtime.threads or max(1, threads // place.count))
    try:
        with ranks.joined(fabric, config.gan.packing):
            yield fabric.device
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
        torch.set_num_threads(threads)
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
