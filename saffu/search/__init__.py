"""The roadmap: hundreds of architectures solved on one text, compared, reported and drawn.

May import every model. Read ``roadmap.py`` first.
"""
