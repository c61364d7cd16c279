"""Workflows and their executions."""

import factory
from factory.django import DjangoModelFactory

from projects.ids import new_id
from projects.models import (
    Execution,
    ExecutionLog,
    ExecutionNode,
    Runner,
    Workflow,
)
from projects.states import (
    OPEN_EXECUTION,
    OPEN_NODE,
    ExecutionStatus,
    NodeStatus,
)
from tests.factories.common import NOW


class WorkflowFactory(DjangoModelFactory[Workflow]):
    """A workflow of one node that does nothing."""

    class Meta:
        model = Workflow

    key = factory.Sequence("workflow-{}".format)
    version = 1
    name = factory.Sequence("Workflow {}".format)
    definition = factory.LazyFunction(lambda: {"nodes": [{"key": "only", "function": "noop"}], "edges": []})
    created_by = "tests"
    created_at = NOW


class ExecutionFactory(DjangoModelFactory[Execution]):
    """An execution without its nodes: whoever wants those starts one."""

    class Meta:
        model = Execution

    workflow = factory.SubFactory(WorkflowFactory)
    status = ExecutionStatus.RUNNING
    open_count = factory.LazyAttribute(lambda o: int(o.status in OPEN_EXECUTION))
    started_by = "tests"
    created_at = NOW
    finished_at = factory.LazyAttribute(lambda o: None if o.status in OPEN_EXECUTION else NOW)


class RunnerFactory(DjangoModelFactory[Runner]):
    class Meta:
        model = Runner

    name = factory.Sequence("host:{}".format)
    started_at = NOW


class ExecutionNodeFactory(DjangoModelFactory[ExecutionNode]):
    class Meta:
        model = ExecutionNode

    execution = factory.SubFactory(ExecutionFactory)
    position = factory.Sequence(int)
    key = "only"
    kind = "function"
    status = NodeStatus.READY
    unmet_count = 0
    open_edges = 0
    timeout_s = 60
    runner = factory.LazyAttribute(lambda o: 1 if o.status == NodeStatus.RUNNING else None)
    lease_until = factory.LazyAttribute(lambda o: NOW if o.status == NodeStatus.RUNNING else None)
    not_before = NOW
    rank_at = NOW
    finished_at = factory.LazyAttribute(lambda o: None if o.status in OPEN_NODE else NOW)


class ExecutionLogFactory(DjangoModelFactory[ExecutionLog]):
    class Meta:
        model = ExecutionLog

    execution_id = factory.LazyFunction(new_id)
    position = 0
    event = "completed"
    at = NOW
