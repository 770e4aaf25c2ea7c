"""The instruments of one host, and Prometheus' registry of them, which is made when somebody scrapes."""

from connector_core.metrics.gauges import Gauge, Reading
from connector_core.metrics.instruments import (
    NO_TASK_TYPE,
    UNKNOWN_TASK_TYPE,
    Metrics,
    core_version,
    create_operation,
    delete_operation,
    do_operation,
    get_agent_operation,
    get_connector_operation,
    get_logs_operation,
    get_metrics_operation,
    get_operation,
    list_agents_operation,
    list_connectors_operation,
    metric_prefix,
)

__all__ = [
    "NO_TASK_TYPE",
    "UNKNOWN_TASK_TYPE",
    "Gauge",
    "Metrics",
    "Reading",
    "core_version",
    "create_operation",
    "delete_operation",
    "do_operation",
    "get_agent_operation",
    "get_connector_operation",
    "get_logs_operation",
    "get_metrics_operation",
    "get_operation",
    "list_agents_operation",
    "list_connectors_operation",
    "metric_prefix",
]
