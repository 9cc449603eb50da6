"""The demonstration's table of detection, without its videos."""

from launch.demo.localize import describe


def test_table_names_every_encoder_and_threshold_on_page_and_console():
    figures = {"tiou": [0.3, 0.5], "mAP": [40.04, 20.0], "average_mAP": 30.02}
    section, text = describe({"trained": {"figures": figures}, "random weights": {"figures": figures}})
    assert section.table is not None
    assert section.table.header == ("features", "mAP at tIoU 0.3", "mAP at tIoU 0.5", "average")
    assert section.table.rows[0] == ("trained", 40.0, 20.0, 30.0)
    lines = text.splitlines()
    assert len(lines) == 3
    assert lines[2].split() == ["random", "weights", "40.0", "20.0", "30.0"]
