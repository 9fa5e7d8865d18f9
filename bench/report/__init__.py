"""How a command is called, what it needs before it begins, and the tables that it writes.

Nothing of ``bench`` but its root may be imported here. Read ``command`` first.
"""
