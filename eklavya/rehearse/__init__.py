"""The whole line from the shell, with automatic approvals. Start reading at `driver.Rehearsal`."""
