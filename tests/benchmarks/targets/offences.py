"""How long the offenders of both servers block, in seconds."""

LONG = 1.0
BRIEF = 0.1
