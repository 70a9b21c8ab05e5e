from .machine import environment as environment
from .processes import finish as finish
from .processes import start as start
