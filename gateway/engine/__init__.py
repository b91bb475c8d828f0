"""A stand-in engine that speaks vLLM's wire format, for the demo and for tests.

`standin` answers every inference route deterministically from the prompt; `scripted` sends
exactly the bytes a test asks for and breaks off exactly where it is told to.  Neither is ever
part of a deployment, and neither imports anything of the gateway.
"""
