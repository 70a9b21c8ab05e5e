from .machine import environment as environment
from .processes import start as start
