from .deepspeed import awaits_weights as awaits_weights
from .deepspeed import quieten_deepspeed as quieten_deepspeed
from .machine import environment as environment
from .preflight import preflight as preflight
from .processes import batching as batching
from .processes import finish as finish
from .processes import start as start
