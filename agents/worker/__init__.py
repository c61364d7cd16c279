"""The remote worker: a machine that executes runs for a server, and knows neither its database nor its broker.

`python -m agents.worker --url https://… --key …`. No Django here. docs/remote-workers.md, docs/adr/0013.
"""
