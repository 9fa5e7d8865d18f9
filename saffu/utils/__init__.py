"""What every other package uses: checks of arguments, token streams, threads, locks, progress bars, files of models.

Imports the compiled core and nothing else of saffu. Read ``validate.py`` first: every public argument passes it.
"""
