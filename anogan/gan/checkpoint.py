"""Training state on disk: safetensors and JSON, so that nothing is ever unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn, optim

from anogan.errors import BundleError
from anogan.files import replacing

CHECKPOINT_SCHEMA = 1


def save_checkpoint(
    path: Path,
    *,
    modules: Mapping[str, nn.Module],
    optimisers: Mapping[str, optim.Optimizer],
    state: Mapping[str, Any],
) -> None:
    """Writes one file with weights, buffers, optimiser moments and JSON state, by rename.

    Raises:
        StorageError: The disk is full or read-only; an older checkpoint of that name is untouched.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"module/{name}/{key}": value for key, value in module.state_dict().items()}
    groups: dict[str, Any] = {}
    for name, optimiser in optimisers.items():
        snapshot = optimiser.state_dict()
        groups[name] = snapshot["param_groups"]
        for index, moments in snapshot["state"].items():
            tensors |= {f"optimiser/{name}/{index}/{key}": value for key, value in moments.items()}
    metadata = {
        "schema": str(CHECKPOINT_SCHEMA),
        "state": json.dumps(dict(state)),
        "groups": json.dumps(groups),
    }
    payload = save({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, metadata)
    with replacing(path) as partial:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())


def load_checkpoint(
    path: Path, *, modules: Mapping[str, nn.Module], optimisers: Mapping[str, optim.Optimizer]
) -> dict[str, Any]:
    """Restores modules and optimisers in place and returns the JSON state.

    Raises:
        BundleError: The file is damaged, newer than this package, or belongs to other networks.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BundleError(f"The checkpoint {path} cannot be read ({error}); train from the start.") from error
    if int(metadata.get("schema", CHECKPOINT_SCHEMA + 1)) > CHECKPOINT_SCHEMA:
        raise BundleError(f"The checkpoint {path} was written by a newer anogan; upgrade to resume it.")
    try:
        for name, module in modules.items():
            module.load_state_dict(_below(tensors, f"module/{name}/"))
        groups = json.loads(metadata["groups"])
        for name, optimiser in optimisers.items():
            optimiser.load_state_dict({"state": _moments(tensors, name), "param_groups": groups[name]})
            _lay_out_as_weights(optimiser)
    except (RuntimeError, KeyError, ValueError) as error:
        raise BundleError(
            f"The checkpoint {path} belongs to other networks; resume with the config it was made with."
        ) from error
    state: dict[str, Any] = json.loads(metadata["state"])
    return state


def _lay_out_as_weights(optimiser: optim.Optimizer) -> None:
    # The file has plain strides. Moments laid out unlike their weights are slower, and sums over them round
    # differently than in a run that was not interrupted.
    for parameter, state in optimiser.state.items():
        for name, moment in state.items():
            if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, requires_grad=False).copy_(moment)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _moments(tensors: Mapping[str, Tensor], name: str) -> dict[int, dict[str, Tensor]]:
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in _below(tensors, f"optimiser/{name}/").items():
        index, _, moment = key.partition("/")
        moments.setdefault(int(index), {})[moment] = value
    return moments
