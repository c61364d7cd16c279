"""What the workflow of the main job must have, so that the platform can carry it out. Pure functions, no database."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from projects.states import MAIN_JOB, Stage
from projects.workflows.definition import Definition, before

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
        if node.stage != Stage.DELIVERY and keys[Stage.DELIVERY] in earlier[node.key]:
            yield f"“{node.key}” comes after the stage “{Stage.DELIVERY}”, which is the end."
        if node.role and keys[Stage.BUILD] not in earlier[node.key]:
            yield f"“{node.key}” is a task of a role: it must come after the stage “{Stage.BUILD}”."
    yield from _round_problems(definition, keys, earlier)


def _round_problems(definition: Definition, keys: dict[Stage, str], earlier: Mapping[str, set[str]]) -> Iterator[str]:
    for edge in definition.edges:
        if edge.repeat:
            between = {key for key in earlier[edge.source] if edge.target in earlier[key]}
            repeated = {stage for stage, key in keys.items() if key in between}
            if repeated and repeated not in _ROUNDS:
                yield f"The edge “{edge.source}” → “{edge.target}” would repeat: {', '.join(sorted(repeated))}."
