"""Refuses answers that cannot become a package; `connector-host new` refuses the same ones itself."""

import re
import sys

for what, answer, pattern in (
    ("a plugin's name", {{ cookiecutter.name | tojson }}, {{ cookiecutter._name_pattern | tojson }}),
    ("a task type", {{ cookiecutter.task_type | tojson }}, {{ cookiecutter._task_type_pattern | tojson }}),
):
    if not re.fullmatch(pattern, answer):
        sys.exit(f"{answer!r} cannot be {what}: it has to match {pattern}")
