"""The log of results: whole after every record, torn at most in its last line."""

import math

import pytest

from saffu.search.result_log import ResultLog


def test_a_result_log_keeps_its_records(tmp_path):
    path = tmp_path / "log"
    with ResultLog(path, {"text": "a"}) as log:
        log.append({"x": 0.1})
        with pytest.raises(ValueError, match="JSON"):
            log.append({"x": math.nan})
        log.append({"x": "two\nlines"})
        assert path.read_bytes().count(b"\n") == 3
    with ResultLog(path, {"text": "a"}) as log:
        assert log.records == [{"x": 0.1}, {"x": "two\nlines"}]


def test_a_torn_line_is_dropped(tmp_path):
    path = tmp_path / "log"
    with ResultLog(path, {"text": "a"}) as log:
        log.append({"x": 1})
        log.append({"y": 2})
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        with ResultLog(path, {"text": "a"}) as log:
            n_whole = sum(end <= size for end in ends)
            assert log.records == [{"x": 1}, {"y": 2}][: max(n_whole - 1, 0)]
            log.append({"z": 3})
        with ResultLog(path, {"text": "a"}) as log:
            assert log.records[-1] == {"z": 3}


def test_a_result_log_of_something_else_is_refused(tmp_path):
    path = tmp_path / "log"
    ResultLog(path, {"tokens": 10, "text": "a"}).close()
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"tokens 10 instead of 20; name another folder, or delete the file"):
        ResultLog(path, {"tokens": 20, "text": "a"})
    assert path.read_bytes() == before


def test_damage_before_the_last_line_is_named(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b'{"text": "a"}\n{"x": \n{"y": 2}\n')
    with pytest.raises(ValueError, match="damaged at line 2; delete that line"):
        ResultLog(path, {"text": "a"})


def test_a_result_log_is_for_one_at_a_time(tmp_path):
    pytest.importorskip("fcntl")
    with ResultLog(tmp_path / "log", {}), pytest.raises(OSError, match="in use by another process"):
        ResultLog(tmp_path / "log", {})
    ResultLog(tmp_path / "log", {}).close()
