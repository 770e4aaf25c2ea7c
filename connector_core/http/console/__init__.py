"""The console: one page that shows people what the host is doing, kept up to date by server-sent events.

Nothing is imported here: what keeps up with calls runs from the start, what draws the page when somebody asks for it.
"""
