"""What a sandbox may talk to, on a port that serves nothing else: the verbs of the platform (MCP) and the model.

Whoever asks shows a run token. Nothing that comes in is trusted, and nothing but the answer goes out.
"""
