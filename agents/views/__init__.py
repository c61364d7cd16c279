"""The pages of agents, one module per place."""
