"""The merge queue: changes of a project that are ready at a time are verified together (docs/adr/0011-merge-queue.md).

`batch` decides, without threads; `queue` brings the supervisors of runs together. Neither knows of rows.
"""
