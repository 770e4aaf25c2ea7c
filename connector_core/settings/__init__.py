"""The host's settings, validated once: command-line flag, then environment, then TOML file, then default."""

from connector_core.settings.layers import ENV_PREFIX, as_variable, section
from connector_core.settings.merging import CONFIG_VARIABLE, load_settings, settings_file
from connector_core.settings.model import Settings
from connector_core.settings.sections import (
    BatchSettings,
    DeadlineSettings,
    LimitSettings,
    LocationSettings,
    MemorySettings,
    RideOutSettings,
    SecretSettings,
    SigningSettings,
)

__all__ = [
    "CONFIG_VARIABLE",
    "ENV_PREFIX",
    "BatchSettings",
    "DeadlineSettings",
    "LimitSettings",
    "LocationSettings",
    "MemorySettings",
    "RideOutSettings",
    "SecretSettings",
    "Settings",
    "SigningSettings",
    "as_variable",
    "load_settings",
    "section",
    "settings_file",
]
