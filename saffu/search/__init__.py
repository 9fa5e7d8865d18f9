"""The roadmap: hundreds of architectures solved on one text, compared, reported and drawn.

May import ``saffu.utils``, ``saffu.text``, ``saffu.explicit`` and every model. Read ``roadmap.py`` first.
"""
