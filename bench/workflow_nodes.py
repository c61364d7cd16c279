"""The function that the graph workloads' nodes call, for the Celery workers that `eklavya_adapter` starts with it."""

from typing import Any

from core.graphs import node_function  # of the harness, which is on the path of whoever runs it

from projects.workflows.functions import Call, register


@register("bench.node")
def node(call: Call) -> Any:
    return node_function(call.key.replace("-", "_"))
