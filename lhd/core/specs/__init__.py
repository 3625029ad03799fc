"""WfSpecs: checking a PutWfSpec request, choosing its version, and what a stored one implies."""
