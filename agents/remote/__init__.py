"""The server's side of remote workers: their WebSocket, their runs' runtime, and the files that go there and back."""
