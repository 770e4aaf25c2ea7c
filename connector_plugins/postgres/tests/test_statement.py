"""Callers' SQL with names in place of numbers, read without a server."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_core import InvalidInputError
from connector_plugin_postgres.statement import MAX_PARAMETERS, Statement


@pytest.mark.parametrize(
    ("text", "sql", "names"),
    [
        ("SELECT $a, $b, $a", "SELECT $1, $2, $1", ("a", "b")),
        ("SELECT $größe", "SELECT $1", ("größe",)),
        ("SELECT a$b, $c", "SELECT a$b, $1", ("c",)),
        ("SELECT '$a''$a', $b", "SELECT '$a''$a', $1", ("b",)),
        (r"SELECT E'\\', $a, '\', $b", r"SELECT E'\\', $1, '\', $2", ("a", "b")),
        ("SELECT /* /* $a */ $a */ $b -- $c\n, $d", "SELECT /* /* $a */ $a */ $1 -- $c\n, $2", ("b", "d")),
        ("SELECT $$ $a $$, $x$ $$ $a $x$, $b", "SELECT $$ $a $$, $x$ $$ $a $x$, $1", ("b",)),
        ("(SELECT $a)", "(SELECT $1)", ("a",)),
        ("WITH x AS (SELECT $a) TABLE x", "WITH x AS (SELECT $1) TABLE x", ("a",)),
    ],
)
def test_names_outside_of_quotes_are_numbered(text: str, sql: str, names: tuple[str, ...]) -> None:
    assert Statement.of(text) == Statement(sql, names)


@pytest.mark.parametrize("text", ["SELECT /* $a", "SELECT '$a", 'SELECT "$a'])
def test_a_quote_that_is_not_closed_is_for_the_server_to_refuse(text: str) -> None:
    assert len(Statement.of(text).names) <= 1


def test_more_parameters_than_the_protocol_has_are_refused() -> None:
    text = "SELECT " + ", ".join(f"$n{number}" for number in range(MAX_PARAMETERS + 1))
    with pytest.raises(InvalidInputError, match="32768 parameters"):
        Statement.of(text)


PIECES = st.one_of(
    st.text(string.ascii_letters + " ,;()$-/*'\"\n", max_size=6).map(lambda text: "'" + text.replace("'", "''") + "'"),
    st.text(string.ascii_letters + " ,;()$-/*'\n", max_size=6).map(lambda text: f'"{text}"'),
    st.text(string.ascii_letters + " ,;()$-/*'\"", max_size=6).map(lambda text: f"--{text}\n"),
    st.text(string.ascii_letters + " ,;()$'\"\n", max_size=6).map(lambda text: f"/*{text}*/"),
    st.text(string.ascii_letters + " ,;()'\"\n", max_size=6).map(lambda text: f"$q${text}$q$"),
    st.sampled_from(["a", "1", "a$b", "+", "(", ")", "::int"]),
)


@given(st.lists(st.one_of(PIECES, st.sampled_from(["$n", "$m"]))))
def test_a_statement_is_changed_nowhere_but_at_its_parameters(pieces: list[str]) -> None:
    statement = Statement.of(" ".join(["SELECT", *pieces]))
    names = list(dict.fromkeys(piece[1:] for piece in pieces if piece in {"$n", "$m"}))
    expected = [f"${names.index(piece[1:]) + 1}" if piece in {"$n", "$m"} else piece for piece in pieces]
    assert statement == Statement(" ".join(["SELECT", *expected]), tuple(names))
