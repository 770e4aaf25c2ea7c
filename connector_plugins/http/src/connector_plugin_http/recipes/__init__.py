"""Recipes: tables that say how jobs of a kind of backend are started, polled and cancelled; some ship as TOML files."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

import msgspec

from connector_core import Phase
from connector_core.tables import After, Meta, Table, read_table
from connector_plugin_http.picking import check_path

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]
Path = Annotated[str, After(check_path)]
SHIPPED = ("accepted", "airflow", "airflow3", "databricks", "dbt")


def _phase(word: str) -> str:
    if word not in Phase.__members__:
        raise ValueError(f"{word!r} is not a phase; phases are {', '.join(Phase.__members__)}")
    return word


PhaseName = Annotated[str, After(_phase)]


class Call(Table, frozen=True):
    """A request: `{name}` stands for a value, `{name?}` for one that may be missing (`{name??}`: null
    then), `{+id}` for an id that is a path.

    Attributes:
        path: appended to the endpoint's URL.
        method: the method.
        query: the query, by name.
        body: sent as JSON; nothing unless set.
        headers: further headers.
    """

    path: str = ""
    method: Method = "GET"
    query: dict[str, str] = msgspec.field(default_factory=dict)
    body: Any = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)


class Create(Call, frozen=True):
    """The request that starts a job; `{key}` is the attempt's idempotency key, sent as `Idempotency-Key` besides.

    Attributes:
        id: where the answer has the job's id; the first that is there.
        exists: statuses with which the backend says that there is a job of this key already.
        known_id: what the id of such a job is, such as `{key}`.
    """

    id: tuple[Path, ...] = ("id",)
    exists: tuple[int, ...] = ()
    known_id: str = ""


class Cancel(Call, frozen=True):
    """The request that cancels a job; `over` are the statuses that say that there is nothing to cancel any more."""

    method: Method = "POST"
    over: tuple[int, ...] = (404, 409, 410)


class Logs(Call, frozen=True):
    """The request for a job's log; `text` is where the answer has it, whole."""

    text: Path = "@text"


class Listing(Call, frozen=True):
    """A request that answers many jobs at once; `{offset}` and `{token}` page it.

    Attributes:
        items: where the answer has the list.
        id: where an item has the job's id.
        page_size: items of a full page, by which `{offset}` grows.
        next: where the answer has the next page's token; without it, pages go by `{offset}`.
        max_pages: pages of one round; jobs that are not on them are asked for one by one.
    """

    items: Path = "items"
    id: Path = "id"
    page_size: Annotated[int, Meta(ge=1)] = 100
    next: str = ""
    max_pages: Annotated[int, Meta(ge=1)] = 20


class Find(Call, frozen=True):
    """A request before a create that finds the job of this key, for backends that keep no idempotency key themselves.

    Attributes:
        items: where the answer has the list.
        match: where an item has the text in which the key stands.
        id: where an item has the job's id.
    """

    items: Path = "items"
    match: Path = "name"
    id: Path = "id"


class Recipe(Table, frozen=True):
    """A kind of job.

    Attributes:
        create: starts a job.
        status: asks for its state.
        state: where the answer has the word for it; the first that is there.
        item: where the status answer has what an item of `listing` is; so that picks are the same for both.
        phases: the phase that each word means; upper and lower case are one.
        unknown: the phase of a word that `phases` has not.
        message: where the backend says why; the first that is there.
        link: where the answer has the URL of the job's own page.
        outputs: where the answer has each output.
        cancel: cancels it.
        logs: asks for its log.
        listing: asks for many.
        find: looks for the job of a key before it is created.
    """

    create: Create
    status: Call
    state: tuple[Path, ...]
    phases: dict[str, PhaseName]
    item: str = ""
    unknown: PhaseName = "RUNNING"
    message: tuple[Path, ...] = ()
    link: str = ""
    outputs: dict[str, Path] = msgspec.field(default_factory=dict)
    cancel: Cancel | None = None
    logs: Logs | None = None
    listing: Listing | None = None
    find: Find | None = None

    def phase_of(self, word: Any) -> Phase | None:
        """Return the phase that a word means; None for one that is not known."""
        wanted = str(word).casefold()
        return next((Phase[name] for known, name in self.phases.items() if known.casefold() == wanted), None)


@cache
def shipped(name: str) -> Recipe:
    """Return a recipe that ships with the plugin."""
    text = files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return read_table(Recipe, tomllib.loads(text), f"recipe {name}")


def recipe_named(name: str, own: Mapping[str, Recipe]) -> Recipe | None:
    """Return the operator's recipe of this name, or else the one that ships, if there is one."""
    return own.get(name) or (shipped(name) if name in SHIPPED else None)
