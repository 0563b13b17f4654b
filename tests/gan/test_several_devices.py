"""Two processes on halves of a batch train as one process does on the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from anogan.config import Config, config_to_dict
from anogan.errors import ConfigError, TrainingError
from anogan.gan.loop import History
from anogan.gan.processes import _Follower, _free_port, _Place, share_out, together
from tests.gan.parallel_cases import (
    CASES,
    CPU,
    MODULE,
    config_of,
    stage_of,
    train,
    train_together,
    weights_of,
)

# fp32 sums in another order, four Adam steps of at most 2e-4 each.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Both:
    """What two processes, started once, made of every case; at the end the second one is killed."""

    found: dict[str, tuple[dict[str, Tensor], History]]
    folder: Path
    ended: str


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder, found = tmp_path_factory.mktemp("both"), {}
    torch.set_num_threads(1)
    cases = [*CASES, "nan", "stop", "killed"]

    def train_all() -> None:
        with together(2, MODULE, config_of("gan"), CPU, {"cases": cases, "folder": str(folder)}):
            for case in cases:
                found[case] = train_together(case, folder)

    with pytest.raises(TrainingError) as ended:
        train_all()
    return Both(found, folder, str(ended.value))


def second(folder: Path, case: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(folder / f"{case}.second", framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one_does_on_the_same_global_batch(
    case: str, both: Both, tmp_path: Path
) -> None:
    weights, history = both.found[case]
    alone, history_alone = train(case, tmp_path)
    start = weights_of(stage_of(case, config_of(case)))
    difference, moved = largest_difference(weights, alone), largest_difference(start, alone)
    assert difference < TOLERANCE, difference
    assert moved > 20 * TOLERANCE  # There was something to disagree about.
    for name, points in history_alone.points.items():
        assert history.points[name] == [
            (step, pytest.approx(value, rel=0.01, abs=1e-3)) for step, value in points
        ]


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[key].float() - b[key].float()).abs().max()) for key in a)


@pytest.mark.parametrize("case", [*CASES, "nan"])
def test_all_weights_buffers_and_averages_are_the_same_on_both(case: str, both: Both) -> None:
    ours, theirs = both.found[case][0], second(both.folder, case)[0]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_nan_in_the_second_share_is_repaired_on_both(both: Both) -> None:
    weights, history = both.found["nan"]
    assert [(alarm["kind"], alarm["step"], alarm["action"]) for alarm in history.alarms] == [
        ("non-finite", 4, "restore")
    ]
    assert second(both.folder, "nan")[1]["alarms"] == "restore"
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert history.points["g_loss"][-1][0] == 9


def test_stopping_alarm_stops_both(both: Both) -> None:
    sentence = both.found["stop"][1].up[0]
    assert "stopped at step 6: All alike." in sentence
    assert second(both.folder, "stop")[1]["up"] == sentence


def test_killed_process_ends_the_training_with_a_sentence_and_leaves_a_checkpoint(both: Both) -> None:
    assert both.ended.startswith("Process 2 of 2 ended before the training did (exit code -9)")
    assert "go on with --resume" in both.ended
    assert "killed" not in both.found
    assert (both.folder / "killed.safetensors").exists()
    assert not torch.distributed.is_initialized()


def test_further_process_ends_when_the_first_one_is_gone() -> None:
    place = _Place(1, 2, _free_port(), "cpu")  # Nobody listens there: it waits for the first one.
    follower = _Follower(MODULE, place, {"config": config_to_dict(config_of("gan"))})
    assert follower.is_ready()
    process = follower._process
    assert process.poll() is None
    assert process.stdin is not None
    process.stdin.close()  # As when the first process is killed.
    assert process.wait(20) == 1
    follower.end(kill=False)


def test_further_process_that_cannot_start_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(TrainingError, match=r"Process 2 of 2 ended .*No module named .*nowhere"),
        together(2, "tests.nowhere", config_of("gan"), CPU, {}),
    ):
        pytest.fail("it went on without the second process")


@pytest.mark.parametrize(
    ("changes", "devices", "words"),
    [
        ({"gan": {"batch_size": 9}}, 2, "gan.batch_size 9 .* a multiple of 2"),
        (
            {"gan": {"batch_size": 12}, "encoder": {"mode": "joint"}},
            2,
            "gan.batch_size 12 .* a multiple of 8",
        ),
        ({"gan": {"batch_size": 8, "packing": 4}}, 3, "gan.batch_size 8 .* a multiple of 12"),
        (
            {"gan": {"batch_size": 6, "mode_seeking_weight": 1}, "encoder": {"mode": "none"}},
            2,
            "gan.batch_size 6 .* a multiple of 4",
        ),
        ({"head": {"batch_size": 5}}, 2, "head.batch_size 5 .* a multiple of 2"),
    ],
)
def test_batch_that_cannot_be_shared_out_is_refused(
    changes: dict[str, Any], devices: int, words: str, tiny_config: Callable[..., Config]
) -> None:
    with pytest.raises(ConfigError, match=words):
        share_out(tiny_config(runtime={"devices": devices}, **changes), CPU)
    assert share_out(tiny_config(runtime={"devices": "auto"}, **changes), CPU) == 1


def test_gpus_that_are_not_there_are_refused(tiny_config: Callable[..., Config]) -> None:
    there = torch.cuda.device_count()
    with pytest.raises(ConfigError, match=rf"runtime.devices is {there + 1}, but there are {there} GPUs"):
        share_out(tiny_config(runtime={"devices": there + 1}, gan={"batch_size": 64}), torch.device("cuda"))
