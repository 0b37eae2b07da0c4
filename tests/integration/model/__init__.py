"""Any order of uploads, commits, forks, shares, take-overs, deletions, collections and crashes.

Always true: what was acknowledged and not purged reads back byte for byte; nothing alive leads to a condemned
chunk; heads move only under the right epoch; each tenant is charged what it stores; nobody can tell what is
another's from what is not there. The seed is printed; `WEBVM_MODEL_SEED=<seed>` runs the same again and
looks for the shortest failure; `WEBVM_MODEL_EXAMPLES=<n>` runs more examples.

Mutations of the service that it has been shown to catch, each by hand and within 15 examples:

- a commit checks neither the epoch, nor the expected head, nor the idempotency key;
- a commit, or a purge, marks nothing for the collection that is under way (the barrier);
- the collector takes no other tenant's adopted rows for references, or no snapshot for a root;
- condemned chunks are not revived; or they are, without being charged, or beyond the quota;
- machines are purged without waiting for the time in which that can be undone;
- a revoked link still works;
- machines are found whoever's tenant they are in; negotiating tells of another tenant's chunks.
"""
