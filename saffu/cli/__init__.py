"""The command line, ``saffu``: one function for each command.

May import all of saffu; nothing imports it but ``saffu.__main__``. Read ``main.py`` first.
"""
