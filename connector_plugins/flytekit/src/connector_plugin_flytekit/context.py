"""flytekit's context for each call: a stack of its own, and the host's secrets."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

from flytekit.configuration import SecretsConfig
from flytekit.core.context_manager import FlyteContextManager, SecretsManager, flyte_context_Var

from connector_core.secrets import SecretSource, current_source
from connector_plugin_flytekit.containment import contained
from connector_plugin_flytekit.folders import folders_of_the_process


def enter_own_context() -> None:
    """Begin a call: the host gives each a `contextvars.Context` of its own, but copies share flytekit's one list in it."""
    base = default_context()
    parameters = base.execution_state.user_space_params
    own = object.__new__(type(parameters))  # `copy` is at a loss with its __getattr__, and its builder makes a folder
    vars(own).update(vars(parameters), _decks=[], _secrets_manager=HostSecrets(current_source()))
    state = copy.copy(base.execution_state)  # `with_params` makes a folder
    state.user_space_params = own
    flyte_context_Var.set([base.with_execution_state(state).build()])


@cache
def default_context() -> Any:
    """Return the context that flytekit's own server runs connectors in."""
    with contained(), folders_of_the_process():  # where there is none, flytekit makes one, and takes SIGINT for itself
        FlyteContextManager.current_context()
    return flyte_context_Var.get()[0]


class HostSecrets(SecretsManager):  # type: ignore[misc] # flytekit's classes are not typed
    """flytekit's secrets, which the host keeps out of its log as it does its own."""

    def __init__(self, source: SecretSource) -> None:
        super().__init__(_secrets_config(source.env_prefix, source.folder))
        self._source = source

    def get(self, *wanted: Any, **more: Any) -> Any:
        """Return a secret, as flytekit finds it."""
        secret = super().get(*wanted, **more)
        if text := secret.decode(errors="ignore") if isinstance(secret, bytes) else secret:
            self._source.note(text)
        return secret


@cache
def _secrets_config(env_prefix: str, folder: Path) -> SecretsConfig:
    """Look where flytekit's configuration says, and where the host's settings say something else, there."""
    usual, flytekits = SecretSource(), SecretsConfig.auto()
    return SecretsConfig(
        env_prefix=flytekits.env_prefix if env_prefix == usual.env_prefix else env_prefix,
        default_dir=flytekits.default_dir if folder == usual.folder else str(folder),
        file_prefix=flytekits.file_prefix,
    )
