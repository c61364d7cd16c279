"""The only way out of a sandbox: an HTTP proxy that lets a run through to the hosts of its role's egress class.

    policy      what was asked for, and whether it may be reached
    resolving   names to addresses, once a request
    callers     the run that a token belongs to
    accounts    how much each run uses: connections, requests, bytes
    record      what was reached and refused, written in batches
    wire        requests and answers, parsed and written by h11
    forwarding  plain HTTP requests
    tunnel      CONNECT
    server      a connection from its first byte to its last

One process of a machine serves it, on a port of its own. A connection carries one request: nothing can hide behind it.
"""
