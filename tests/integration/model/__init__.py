"""Any order of uploads, commits, forks, shares, take-overs, deletions, collections and crashes.

Always true: what was acknowledged and not purged reads back byte for byte; nothing alive leads to a condemned
chunk; heads move only under the right epoch; each tenant is charged what it stores; nobody can tell what is
another's from what is not there. The seed is printed; `WEBVM_MODEL_SEED=<seed>` runs the same again and
looks for the shortest failure; `WEBVM_MODEL_EXAMPLES=<n>` runs more examples.
"""
