"""A connector says by attributes and its type parameter what it serves and how its jobs are handled."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pytest

from connector_core import AsyncConnectorBase, ResourceMeta, SyncConnectorBase, TaskCategory
from connector_core.connector import ConnectorBase, categories_of, metadata_type_of
from connector_core.errors import InvalidConnectorError
from tests.fakes import Answers, JobMeta, Jobs

MetaT = TypeVar("MetaT", bound=ResourceMeta)
ClientT = TypeVar("ClientT")


@dataclass
class OtherMeta(ResourceMeta):
    number: int


class Stubs:
    """The methods, for classes that are about something else."""

    def create(self) -> Any: ...

    def get(self) -> Any: ...

    def delete(self) -> None: ...


class Polled(Stubs, AsyncConnectorBase[MetaT]):
    """A base class that leaves the type parameter open."""


class WithClient(Stubs, AsyncConnectorBase[MetaT], Generic[ClientT, MetaT]):
    """A base class with a parameter of its own before the meta's."""


class SecondLevel(WithClient[str, MetaT]):
    """One that fills its base's first parameter only."""


class TestTaskCategories:
    def test_a_task_type_name_is_enough(self) -> None:
        assert categories_of(Jobs("spark")) == (TaskCategory("spark", 0),)

    def test_the_version_may_be_set_besides(self) -> None:
        class Versioned(Answers):
            task_type_version = 2

        assert categories_of(Versioned("spark")) == (TaskCategory("spark", 2),)

    def test_several_are_categories_or_text(self) -> None:
        connector = Jobs(task_categories=[TaskCategory("a", 1), "b", "b@2"])
        assert categories_of(connector) == (TaskCategory("a", 1), TaskCategory("b"), TaskCategory("b", 2))

    def test_the_class_may_set_them_as_well(self) -> None:
        class Several(Answers):
            task_categories = ("a", "b")

        assert [str(one) for one in categories_of(Several())] == ["a", "b"]

    def test_a_connector_without_any_is_refused(self) -> None:
        class Nameless(SyncConnectorBase):
            name = "Nameless"

            def do(self) -> Any: ...

        with pytest.raises(InvalidConnectorError, match=r"Nameless names no task type: set `task_type_name`"):
            categories_of(Nameless())

    @pytest.mark.parametrize("name", ["", None, 5])
    def test_a_name_that_is_none_is_refused(self, name: object) -> None:
        with pytest.raises(InvalidConnectorError, match="names no task type"):
            categories_of(Answers(task_type_name=name))

    @pytest.mark.parametrize("given", ["spark", ["a b"], [5], [None], 5, TaskCategory("a")])
    def test_what_is_no_list_of_categories_is_refused(self, given: object) -> None:
        with pytest.raises(InvalidConnectorError, match=r"fakes\.Answers\.task_categories"):
            categories_of(Answers(task_categories=given))

    @pytest.mark.parametrize("version", ["1", None, 1.5, -1, 2**31])
    def test_a_version_that_the_protocol_cannot_carry_is_refused(self, version: object) -> None:
        with pytest.raises(InvalidConnectorError, match=r"fakes\.Answers.*version"):
            categories_of(Answers(task_type_version=version))
        with pytest.raises(InvalidConnectorError, match=r"fakes\.Answers.*version"):
            categories_of(Answers(task_categories=[TaskCategory("a", version)]))  # type: ignore[arg-type]

    @pytest.mark.parametrize("name", ["two words", "at@1", 5])
    def test_a_name_that_is_no_task_type_is_refused(self, name: object) -> None:
        """`--prefer` and tools write categories as text, so a name must not read as something else."""
        with pytest.raises(InvalidConnectorError, match=r"fakes\.Answers"):
            categories_of(Answers(task_categories=[TaskCategory(name)]))  # type: ignore[arg-type]


class TestMetadataType:
    def test_it_is_the_type_parameter(self) -> None:
        assert metadata_type_of(Jobs()) is JobMeta

    def test_a_subclass_inherits_it(self) -> None:
        class Special(Jobs): ...

        assert metadata_type_of(Special()) is JobMeta

    def test_it_is_found_through_a_generic_base(self) -> None:
        class Filled(Polled[OtherMeta]): ...

        assert metadata_type_of(Filled()) is OtherMeta

    def test_it_is_found_among_other_parameters(self) -> None:
        class Filled(WithClient[int, OtherMeta]): ...

        assert metadata_type_of(Filled()) is OtherMeta

    def test_it_is_found_through_several_generic_bases(self) -> None:
        class Filled(SecondLevel[OtherMeta]): ...

        class Below(Filled): ...

        assert metadata_type_of(Below()) is OtherMeta

    def test_two_connectors_of_one_generic_base_do_not_share_it(self) -> None:
        class One(Polled[OtherMeta]): ...

        class Two(Polled[JobMeta]): ...

        assert (metadata_type_of(One()), metadata_type_of(Two())) == (OtherMeta, JobMeta)

    def test_the_attribute_wins_over_the_parameter(self) -> None:
        class Explicit(Jobs):
            metadata_type = OtherMeta

        assert metadata_type_of(Explicit()) is OtherMeta

    def test_it_may_be_set_on_the_instance(self) -> None:
        assert metadata_type_of(_with_meta(OtherMeta)) is OtherMeta

    @pytest.mark.parametrize("given", [None, dict, "JobMeta", JobMeta("1")])
    def test_a_connector_without_one_is_refused(self, given: object) -> None:
        with pytest.raises(InvalidConnectorError, match=r"Polled does not say .* `class Polled\(AsyncConnectorBase\["):
            metadata_type_of(_with_meta(given))

    def test_one_that_forgot_the_decorator_is_refused(self) -> None:
        """It would be written as `{}`, and no job would be found again."""

        class ForgetfulMeta(ResourceMeta):
            job_id: str

            def __init__(self, job_id: str) -> None:
                self.job_id = job_id

        with pytest.raises(InvalidConnectorError, match=r"ForgetfulMeta is not a dataclass.*@dataclass"):
            metadata_type_of(_with_meta(ForgetfulMeta))

    def test_one_with_a_form_of_its_own_needs_no_fields(self) -> None:
        class OpaqueMeta(ResourceMeta):
            def __init__(self, data: bytes) -> None:
                self.data = data

            def encode(self) -> bytes:
                return self.data

            @classmethod
            def decode(cls, data: bytes) -> "OpaqueMeta":
                return cls(data)

        assert metadata_type_of(_with_meta(OpaqueMeta)) is OpaqueMeta

    def test_one_that_only_adds_behaviour_to_another_is_fine(self) -> None:
        class TalkingMeta(JobMeta):
            def describe(self) -> str:
                return self.job_id

        assert metadata_type_of(_with_meta(TalkingMeta)) is TalkingMeta


def _with_meta(metadata_type: object) -> AsyncConnectorBase[Any]:
    connector: AsyncConnectorBase[Any] = Polled()
    connector.metadata_type = metadata_type  # type: ignore[assignment]
    return connector


@pytest.mark.parametrize(
    ("base", "missing"), [(AsyncConnectorBase, "create.*delete.*get"), (SyncConnectorBase, "do")], ids=["async", "sync"]
)
def test_a_connector_that_leaves_out_a_method_cannot_be_made(base: type[ConnectorBase], missing: str) -> None:
    incomplete = type("Incomplete", (base,), {})
    with pytest.raises(TypeError, match=f"Incomplete.*{missing}"):
        incomplete()
