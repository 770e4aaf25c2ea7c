"""The metrics of one host: kept plain, and made into Prometheus' samples when somebody scrapes."""

from connector_core.metrics.catalogue import (
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
from connector_core.metrics.instruments import Gauge, Reading

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
