"""The README's figures are those of bench/RESULTS.md."""

import pytest

from bench.report.tables import RESULTS, between
from bench.results import README, cell_of, headline

TABLES = """<!-- one:begin -->
| name | kind | a | b |
| --- | --- | ---: | ---: |
| x | small | 1 | **2** |
| x | large | 3 | 4 |

| name | c |
| --- | ---: |
| x | 5 |
<!-- one:end -->
"""


def test_the_table_of_the_readme_is_made_of_measured_cells():
    begin, end = between("figures")
    part = README.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]
    assert part.strip() == headline(RESULTS.read_text(encoding="utf-8"))


def test_the_readme_fits_two_screens():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize(
    ("row", "column", "value"), [("x / small", "b", "2"), ("x / large", "a", "3"), ("x", "c", "5")]
)
def test_a_cell_is_found_by_the_first_cells_of_its_row(row, column, value):
    assert cell_of(TABLES, "one", row, column) == value


def test_a_missing_cell_ends_the_command():
    with pytest.raises(SystemExit, match="no cell"):
        cell_of(TABLES, "one", "y", "a")
