"""LiteLLM's proxy in a virtual environment of its own, set up as near to the gateway as it comes without a database.

Its budgets per key and per team need a PostgreSQL by way of Prisma, whose engines are programs fetched from the
maker's server at the first start: not possible on a machine without the internet. So it checks one master key, keeps
rate limits for the model and counts what is spent, in memory, and enforces no budget; that is less than the gateway
does, and all in its favour.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.installation import ROOT, free_ports
from bench.programs import program
from bench.streams import MODEL

KEY = "sk-bench"
VENV = ROOT / "var" / "bench" / "litellm"


@contextmanager
def litellm(var: Path, model_url: str) -> Iterator[str]:
    """Run the proxy in front of a model for the length of the `with`, and yield its address."""
    limits = {"rpm": 10_000_000, "tpm": 10_000_000_000}
    params = {"model": f"anthropic/{MODEL}", "api_base": model_url, "api_key": "sk-ant-bench"} | limits
    config = {
        "model_list": [{"model_name": MODEL, "litellm_params": params}],
        "general_settings": {"master_key": KEY},
        "litellm_settings": {"max_budget": 100_000, "budget_duration": "30d", "telemetry": False},
    }
    file = var / "litellm.json"  # JSON is YAML
    file.write_text(json.dumps(config))
    [port] = free_ports(1)
    command = [
        str(_installed()),
        "--config",
        str(file),
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
        "--num_workers",
        "1",
    ]
    address = f"http://127.0.0.1:{port}"
    # Its table of prices comes with it: no way out is needed for that.
    own = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with program(command, url=f"{address}/v1/messages", log=var / "litellm.log", env=own):
        yield address


def _installed() -> Path:
    """Return the program, installed once. EKLAVYA_BENCH_LITELLM names another virtual environment that has it."""
    if given := os.environ.get("EKLAVYA_BENCH_LITELLM"):
        return Path(given) / "bin" / "litellm"
    if not (found := VENV / "bin" / "litellm").exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([str(VENV / "bin" / "pip"), "install", "--quiet", "litellm[proxy]"], check=True)
    return found
