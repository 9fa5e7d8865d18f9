"""What every other package uses: checks of arguments, threads, locks, progress bars, checkpoints, random starts.

Imports the compiled core and nothing else of saffu. Read ``validate.py`` first: every public argument passes it.
"""
