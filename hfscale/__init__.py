"""hfscale: one model through its whole life on the Hugging Face stack.

`from hfscale import data, models, training` costs nothing until a name inside is used: every subpackage loads
lazily, so that `import hfscale` needs neither torch nor transformers.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
