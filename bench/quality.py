"""Write the quality tables of RESULTS.md: ``python -m bench.quality [--print]``. Needs SAFFU_DATA and scikit-learn."""

from __future__ import annotations

import argparse

from bench import quality_classifier, quality_language_model
from bench.measure import check_published, data_folder, machine_line, publish, require


def main() -> None:
    """Measure both models on all corpora, then write."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description=__doc__)
    parser.add_argument("--print", action="store_true", help="print the tables and leave RESULTS.md alone")
    arguments = parser.parse_args()
    require("sklearn")
    check_published("quality", arguments.print)
    folder = data_folder()
    sections = [
        "### Language model",
        quality_language_model.report(folder),
        "### Classifier",
        quality_classifier.table(list(quality_classifier.rows(folder))),
        machine_line("every core", ("scikit-learn",)),
    ]
    publish("quality", "\n\n".join(sections), arguments.print)


if __name__ == "__main__":
    main()
