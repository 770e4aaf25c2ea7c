"""flytekit's context for each call: a stack of its own, and the host's secrets."""

import copy
from functools import cache
from typing import Any

from flytekit.configuration import SecretsConfig
from flytekit.core.context_manager import FlyteContextManager, SecretsManager, flyte_context_Var

from connector_core.secrets import SecretSource, current_source
from connector_plugin_flytekit.containment import contained


def enter_own_context() -> None:
    """Begin a call: the host gives each a `contextvars.Context` of its own, but copies share flytekit's one list in it."""
    base = default_context()
    parameters = base.execution_state.user_space_params
    own = object.__new__(
        type(parameters)
    )  # its __getattr__ keeps `copy` from making one, and its builder looks for files
    vars(own).update(vars(parameters), _decks=[], _secrets_manager=_secrets_manager(current_source()))
    state = copy.copy(base.execution_state)  # `with_params` makes a folder
    state.user_space_params = own
    flyte_context_Var.set([base.with_execution_state(state).build()])


@cache
def default_context() -> Any:
    """Return the context that flytekit's own server runs connectors in."""
    with contained():  # where there is none, flytekit makes one, and takes SIGINT for itself
        FlyteContextManager.current_context()
    return flyte_context_Var.get()[0]


@cache
def _secrets_manager(source: SecretSource) -> SecretsManager:
    """Look where flytekit's configuration says, and where the host's settings say something else, there."""
    usual, flytekits = SecretSource(), SecretsConfig.auto()
    return SecretsManager(
        SecretsConfig(
            env_prefix=flytekits.env_prefix if source.env_prefix == usual.env_prefix else source.env_prefix,
            default_dir=flytekits.default_dir if source.folder == usual.folder else str(source.folder),
            file_prefix=flytekits.file_prefix,
        )
    )
