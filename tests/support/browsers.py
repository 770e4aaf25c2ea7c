"""Where a browser is, for those who look at the console."""

import os
import shutil
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# Chromium's sandbox does not work for root, as which containers often run.
LAUNCH: dict[str, Any] = {
    "executable_path": CHROMIUM,
    "args": ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else [],
}
