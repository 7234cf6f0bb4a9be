"""What may be asked of a model. It is here by itself, for who lists the questions and asks none: Cedar takes longer to load than that."""

from typing import Literal

# As inference.cedarschema names them; "discover" is asked before either of the others.
Action = Literal["discover", "infer", "describe"]
