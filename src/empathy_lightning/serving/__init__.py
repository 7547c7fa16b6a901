"""A server to talk to: HTTP, WebSocket and a page, around one bot."""
