"""From a source's event to a command: routes, identity, submission; and the answer to "why not?"."""
