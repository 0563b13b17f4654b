from __future__ import annotations

from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from anogan.gan.logbook import Logbook, event_files, history_csv
from anogan.gan.loop import History


def write(book: Logbook, history: History, step: int, loss: float) -> None:
    history.add(step, {"g_loss": loss})
    book.add(step, history)


def read(path: Path) -> EventAccumulator:
    events = EventAccumulator(str(path), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    return events


def test_tensorboard_reads_the_figures_and_pictures(tmp_path: Path) -> None:
    history, tiles = History(), {"generated": torch.rand(4, 3, 8, 8) * 2 - 1}
    book = Logbook(tmp_path, "gan", lambda: tiles)
    for step in range(1, 6):
        write(book, history, step, 1 / step)
    book.close()
    events = read(tmp_path)
    assert [(e.step, round(e.value, 4)) for e in events.Scalars("gan/g_loss")] == [
        (step, round(1 / step, 4)) for step in range(1, 6)
    ]
    assert [e.step for e in events.Images("gan/generated")] == [1, 2, 4]


def test_steps_that_a_restore_took_back_are_void_in_the_kept_stream(tmp_path: Path) -> None:
    history = History()
    book = Logbook(tmp_path, "gan", None)
    for step, loss in ((1, 1.0), (2, 2.0), (3, 30.0)):
        write(book, history, step, loss)
    history = History({"g_loss": [(1, 1.0)]})  # As the restored checkpoint has it.
    for step, loss in ((2, 0.2), (3, 0.3)):
        write(book, history, step, loss)
    book.close()
    (tmp_path / "kept").mkdir()
    for name, content in event_files(tmp_path).items():
        (tmp_path / "kept" / name).write_bytes(content)
    assert [e.step for e in read(tmp_path / "kept").Scalars("gan/g_loss")] == [1, 2, 3]
    assert read(tmp_path / "kept").Scalars("gan/g_loss")[-1].value < 1


def test_files_of_one_second_follow_each_other_as_they_were_opened(tmp_path: Path) -> None:
    for number in (10, 9):
        (tmp_path / f"events.out.tfevents.1700000000.a.station.77.{number}.gan").write_bytes(b"%d " % number)
    (tmp_path / "events.out.tfevents.1699999999.a.station.78.11.gan").write_bytes(b"first ")
    assert event_files(tmp_path) == {"events.out.tfevents.gan": b"first 9 10 "}


def test_csv_is_whole_after_each_look(tmp_path: Path) -> None:
    history = History()
    book = Logbook(tmp_path, "gan", None)
    for step in (1, 2):
        write(book, history, step, step / 8)
        expected = history_csv({"gan": history})
        assert (tmp_path / "gan.csv").read_bytes() == expected
    assert expected.decode().splitlines() == [
        "stage,figure,step,value",
        "gan,g_loss,1,0.125",
        "gan,g_loss,2,0.25",
    ]


def test_event_files_are_kept_under_names_that_tell_nothing_of_the_machine(tmp_path: Path) -> None:
    book = Logbook(tmp_path, "head", None)
    write(book, History(), 1, 1.0)
    book.close()
    assert list(event_files(tmp_path)) == ["events.out.tfevents.head"]
