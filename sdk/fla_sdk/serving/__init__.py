"""Serving a policy over the network. `from fla_sdk.serving.server import PolicyServer, serve`."""
