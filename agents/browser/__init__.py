"""The browser of agents: an MCP server that runs inside their sandbox. See `server`."""
