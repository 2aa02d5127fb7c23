"""`latency`: a line after every hundred answers of an embodiment."""

import pytest

from fla_plugins.latency import LatencyLog


def test_a_line_per_hundred_answers_and_embodiment(capsys: pytest.CaptureFixture[str]) -> None:
    log = LatencyLog()
    for milliseconds in range(1, 101):
        assert capsys.readouterr().out == ""
        if milliseconds < 100:
            log.fla_policy_called("planar3", 1000.0)
        log.fla_policy_called("planar2", float(milliseconds))
    assert capsys.readouterr().out == "planar2: 100 answers, median 50 ms, 95 % below 95 ms\n"
    log.fla_policy_called("planar2", 1.0)
    assert capsys.readouterr().out == ""
    log.fla_policy_called("planar3", 1000.0)
    assert capsys.readouterr().out == "planar3: 100 answers, median 1000 ms, 95 % below 1000 ms\n"
