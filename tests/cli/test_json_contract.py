"""The documents of ``--json``: fields are only ever added, for programs read them."""

from __future__ import annotations

import msgspec
import pytest

from outboxd import backup, doctor, monitor
from outboxd.store.control import Request

PROMISED: dict[type[msgspec.Struct], str] = {
    monitor.SagaRow: (
        "id participant type key state step tries next_at started_at moved_at ended_at error"
    ),
    monitor.SagaDetail: (
        "saga version is_forward_only stuck ending reason detail result steps history operations "
        "waits_for next moves"
    ),
    monitor.SagaStep: ("pos kind name to state undo failed_tries started_at ended_at took_s text"),
    monitor.HistoryRow: "n at since_s kind pos name text",
    monitor.LetterRow: (
        "name participant n message_id type key sender handler state attempts failed replays "
        "first_at at error_type error reason saga"
    ),
    monitor.LetterDetail: "letter envelope data text traceback attempts history moves",
    monitor.LetterGroup: (
        "participant handler error_type error letters first_at last_at failed replays"
    ),
    monitor.Attempt: "n at took_s outcome error traceback",
    monitor.MessageRow: ("id type key sender to participant state tries at due_at error saga"),
    monitor.MessageDetail: "id envelope data text",
    monitor.Why: "id kind state waits_for next moves origin",
    monitor.Overview: "data at daemon participants requests_pending problems schedules",
    monitor.Planned: "participant name spec next_at fired last_at state letter error",
    monitor.Health: (
        "participant outbox outbox_oldest_at delayed waiting retrying running held letters "
        "letters_oldest_at sagas next_at next_what paused"
    ),
    monitor.Daemon: "state pid node version started_at at redis broker participants problems",
    monitor.Violation: "rule text ids",
    monitor.InvariantResult: "participant text state sentences",
    Request: "id at kind participant target args who reason state result applied_at",
    doctor.Finding: "check state text remedy",
    backup.File: "name path bytes wal_bytes",
}


@pytest.mark.parametrize("document", PROMISED, ids=lambda kind: kind.__name__)
def test_a_promised_field_stays(document: type[msgspec.Struct]) -> None:
    assert set(PROMISED[document].split()) <= set(document.__struct_encode_fields__)
