"""The command line, ``saffu``: one file for each command, with its options and its function.

``main.py`` finds the command and turns errors into lines and exit codes; ``options.py`` and ``values.py`` hold what the
options of several commands have in common, ``models.py``, ``rows.py`` and ``files.py`` what they read and write, and
``output.py`` what they print. May import all of saffu; nothing imports it but ``saffu.__main__``. Read ``main.py``
first.
"""
