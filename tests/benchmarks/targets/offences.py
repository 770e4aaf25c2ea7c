"""How long the offenders of both servers block, in seconds."""

LONG = 5.0
BRIEF = 0.1
