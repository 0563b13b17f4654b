"""One machine's processes as Lightning Fabric's cluster; imported only when there are several."""

from __future__ import annotations

import logging
from datetime import timedelta

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy

HOST = "127.0.0.1"
# The first rank may look, draw or write while the others wait.
TIMEOUT = timedelta(minutes=10)


class LocalCluster(ClusterEnvironment):
    """Processes of this machine that `processes.together` has started."""

    def __init__(self, rank: int, count: int, port: int) -> None:
        self._rank, self._count, self._port = rank, count, port

    @property
    def creates_processes_externally(self) -> bool:
        """Yes: Fabric's own launcher would run the calling script again."""
        return True

    @property
    def main_address(self) -> str:
        """Of this machine, to itself."""
        return HOST

    @property
    def main_port(self) -> int:
        """Where rank 0 listens."""
        return self._port

    @staticmethod
    def detect() -> bool:
        """No: it is chosen, not found."""
        return False

    def world_size(self) -> int:
        """Number of processes."""
        return self._count

    def set_world_size(self, size: int) -> None:
        """Fixed from the start."""

    def global_rank(self) -> int:
        """This process's number, from 0."""
        return self._rank

    def set_global_rank(self, rank: int) -> None:
        """Fixed from the start."""

    def local_rank(self) -> int:
        """The same: there is one machine."""
        return self._rank

    def node_rank(self) -> int:
        """The same for all: there is one machine."""
        return 0


def launched(rank: int, count: int, port: int, device: torch.device) -> Fabric:
    """This process as rank `rank`, connected to the others: gloo between CPUs, NCCL between GPUs."""
    # It reports each rank's arrival to the terminal.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=device.type,
        devices=count,
        strategy=DDPStrategy(timeout=TIMEOUT),
        plugins=[LocalCluster(rank, count, port)],
    )
    fabric.launch()
    return fabric
