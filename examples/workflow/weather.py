"""A workflow of two DuckDB queries: the wettest month of a year, out of a file of daily weather."""

from typing import NamedTuple

from flytekit import workflow
from flytekit.types.file import FlyteFile
from flytekit.types.structured import StructuredDataset

from connector_plugin_duckdb.task import DuckDBQuery

# A file is a table of its input's name, and any other input is a parameter. The result goes to the next task as Parquet.
monthly_weather = DuckDBQuery(
    "monthly_weather",
    """
    SELECT month(date) AS month, round(sum(precipitation), 1) AS rain, max(temp_max) AS hottest
    FROM weather
    WHERE year(date) = $year
    GROUP BY ALL
    """,
    inputs={"weather": FlyteFile, "year": int},
    output=StructuredDataset,
)

# Several outputs are columns of one row.
wettest_month = DuckDBQuery(
    "wettest_month",
    "SELECT month, rain FROM months ORDER BY rain DESC LIMIT 1",
    inputs={"months": StructuredDataset},
    output={"month": int, "rain": float},
)


class WettestMonth(NamedTuple):
    """What the workflow returns: a month's number, and its rain in millimetres."""

    month: int
    rain: float


@workflow
def weather_report(weather: FlyteFile, year: int = 2015) -> WettestMonth:
    """Find the wettest month of a year."""
    months = monthly_weather(weather=weather, year=year)
    month, rain = wettest_month(months=months)
    return WettestMonth(month=month, rain=rain)
