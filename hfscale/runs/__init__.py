"""The folder of one run: its lock, its settings, what it goes on from, what came out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
