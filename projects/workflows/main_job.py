"""What the workflow of the main job must have, so that the platform can carry it out. Pure functions, no database."""

from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from itertools import pairwise

from projects.states import MAIN_JOB, Stage
from projects.workflows.conditions import UndecidedCondition, is_met
from projects.workflows.definition import Definition, Edge, before

# By these a plan or a demo is made anew as often as people ask for it.
_ROUNDS = ({Stage.PLAN, Stage.PLAN_APPROVAL}, {Stage.DEMO, Stage.DEMO_APPROVAL})


def main_job_problems(key: str, definition: Definition) -> list[str]:
    """Return what is wrong with the stages of a workflow: the main job has each once, in order; others have none."""
    stages = {node.stage: node.key for node in definition.nodes if node.stage}
    if key != MAIN_JOB:
        return [f"Only {MAIN_JOB} has stages, and not {key[:64]}."] if stages else []
    missing = [stage.value for stage in Stage if stage not in stages]
    if missing or len(stages) < sum(bool(node.stage) for node in definition.nodes):
        listed = f" It lacks: {', '.join(missing)}." if missing else ""
        return [f"The main job has each stage once: {', '.join(Stage)}.{listed}"]
    return list(_order_problems(definition, {Stage(stage): key for stage, key in stages.items()}))


def main_job_warnings(key: str, definition: Definition) -> list[str]:
    """Return where a version of the main job may end without a delivery: a condition that is all that leads on from a
    node, which every stage behind it needs. It can be meant so, to have people look: the project is paused then."""
    if key != MAIN_JOB:
        return []
    ways: dict[str, list[Edge]] = {node.key: [] for node in definition.nodes}
    incoming: dict[str, int] = dict.fromkeys(ways, 0)
    for edge in definition.edges:
        ways[edge.source].append(edge)
        incoming[edge.target] += not edge.repeat
    joins = {node.key: node.join for node in definition.nodes}
    alone = [of[0] for of in ways.values() if len(of) == 1 and of[0].when]
    return [
        f"When “{edge.when}” is not met after “{edge.source}”, nothing is delivered: the project is paused. Say what "
        f"follows then by another edge from “{edge.source}”."
        for edge in alone
        if joins[edge.target] in ("all", incoming[edge.target])
    ]


def _order_problems(definition: Definition, keys: dict[Stage, str]) -> Iterator[str]:
    parents: dict[str, list[str]] = {node.key: [] for node in definition.nodes}
    for edge in definition.edges:
        if not edge.repeat:
            parents[edge.target].append(edge.source)
    earlier = {node.key: before(parents, node.key) for node in definition.nodes}
    for one, following in pairwise(Stage):
        if keys[one] not in earlier[keys[following]]:
            yield f"The stage “{following}” must come after “{one}”."
    for node in definition.nodes:
        if node.key not in earlier[keys[Stage.DELIVERY]]:
            yield f"The stage “{Stage.DELIVERY}” does not wait for “{node.key}”, which must come before it."
        if node.role and keys[Stage.BUILD] not in earlier[node.key]:
            yield f"“{node.key}” is a task of a role: it must come after the stage “{Stage.BUILD}”."
    yield from _need_problems(definition, keys)
    yield from _decision_problems(definition, keys)
    yield from _round_problems(definition, keys, earlier)


def _decision_problems(definition: Definition, keys: dict[Stage, str]) -> Iterator[str]:
    for stage in (Stage.PLAN_APPROVAL, Stage.DEMO_APPROVAL):
        for decision in ("amend", "reject"):
            if not _leads_back(definition, keys[stage], decision):
                yield f"No edge leads back from “{keys[stage]}” when it is decided with “{decision}”."


def _leads_back(definition: Definition, key: str, decision: str) -> bool:
    backs = [edge for edge in definition.edges if edge.repeat and edge.source == key and edge.after != "failure"]
    try:
        return any(is_met(edge.when, {"decision": decision}, status="completed") for edge in backs)
    except UndecidedCondition:
        return False


def _need_problems(definition: Definition, keys: dict[Stage, str]) -> Iterator[str]:
    """Joins and edges after failures may let a stage begin though one before it was not done."""
    ways: dict[str, list[Edge]] = {node.key: [] for node in definition.nodes}
    for edge in definition.edges:
        if not edge.repeat:
            ways[edge.target].append(edge)
    joins = {node.key: node.join for node in definition.nodes}
    order = TopologicalSorter({key: {edge.source for edge in of} for key, of in ways.items()})
    needs: dict[str, set[str]] = {}
    for key in order.static_order():
        each = [needs[edge.source] | ({edge.source} if edge.after == "success" else set()) for edge in ways[key]]
        is_all = joins[key] in ("all", len(each))
        needs[key] = (set.union(*each) if is_all else set.intersection(*each)) if each else set()
    for one, following in pairwise(Stage):
        if keys[one] not in needs[keys[following]]:
            yield f"The stage “{following}” may begin though “{one}” was not done."


def _round_problems(definition: Definition, keys: dict[Stage, str], earlier: Mapping[str, set[str]]) -> Iterator[str]:
    for edge in definition.edges:
        if edge.repeat:
            between = {key for key in earlier[edge.source] if edge.target in earlier[key]}
            repeated = {stage for stage, key in keys.items() if key in between}
            beside = [
                key
                for key in keys.values()
                if edge.target in earlier[key] and key not in earlier[edge.source] and edge.source not in earlier[key]
            ]
            if beside:
                yield f"The edge “{edge.source}” → “{edge.target}” may lead back when “{beside[0]}” has begun."
            if repeated and repeated not in _ROUNDS:
                yield f"The edge “{edge.source}” → “{edge.target}” would repeat: {', '.join(sorted(repeated))}."
